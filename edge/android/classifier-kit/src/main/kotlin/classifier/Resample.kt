package classifier

import kotlin.math.abs
import kotlin.math.ceil
import kotlin.math.floor
import kotlin.math.max
import kotlin.math.min
import kotlin.math.round

private const val PRECISION = 22 // bits after the point of a weight; Pillow's, so that every level is rounded alike
private const val MOST_RESIZED = 3 // times the crop's size

/** A filter: the [weight] of a pixel by its distance, and how far it reaches, in pixels of the smaller of two sizes. */
enum class Interpolation(val reach: Double, val weight: (Double) -> Double) {
    BILINEAR(1.0, { max(0.0, 1 - abs(it)) }),
    BICUBIC(2.0, { cubic(abs(it)) }),
    ;

    companion object {
        fun named(name: String) = requireNotNull(entries.find { it.name == name.uppercase() }) { "no interpolation is called $name" }
    }
}

private fun cubic(distance: Double): Double {
    val a = -0.5
    return when {
        distance < 1 -> ((a + 2) * distance - (a + 3)) * distance * distance + 1
        distance < 2 -> (((distance - 5) * distance + 8) * distance - 4) * a
        else -> 0.0
    }
}

/**
 * Resizes the short side of [picture] with antialiasing and cuts out the middle: the same levels as Pillow's.
 *
 * Only what the crop needs is computed, rows first, then columns, each rounded to whole levels.
 *
 * @return the levels of crop x crop pixels, three bytes each.
 */
fun Input.resizeAndCrop(picture: Picture): ByteArray {
    val (width, height) = picture.extentWidth to picture.extentHeight
    val longer = (resize * max(width, height) / min(width, height)).toInt()
    val columns = stretch(width, if (width <= height) resize else longer)
    val rows = stretch(height, if (width <= height) longer else resize)

    val margin = ceil(interpolation.reach * max(1.0, (rows.end - rows.begin) / rows.resized)).toInt() + 1 // rows beyond the crop
    var first = max(0, floor(rows.begin).toInt() - margin)
    var last = min(picture.height, ceil(rows.end).toInt() + margin)
    if (last - first > picture.height / 2.0) {
        first = 0
        last = picture.height
    }

    val narrow = ByteArray(3 * crop * (last - first))
    val across = weights(picture.width, columns.begin, columns.end, columns.resized).drop(columns.skipped)
    for (y in 0 until last - first) for (x in 0 until crop) for (channel in 0..2) {
        val start = 3 * ((first + y) * picture.width + across[x].first) + channel
        narrow[3 * (y * crop + x) + channel] = mix(picture.rgb, start, 3, across[x])
    }
    val square = ByteArray(3 * crop * crop)
    val down = weights(last - first, rows.begin - first, rows.end - first, rows.resized).drop(rows.skipped)
    for (y in 0 until crop) for (i in 0 until 3 * crop) {
        square[3 * crop * y + i] = mix(narrow, 3 * crop * down[y].first + i, 3 * crop, down[y])
    }
    return square
}

/**
 * A part of one side that is resized, of which the crop is a part.
 *
 * [begin] and [end] are in pixels of the picture. It becomes [resized] pixels, of which [skipped] lie before the crop.
 */
private class Stretch(val begin: Double, val end: Double, val resized: Int, val skipped: Int)

/** As the Python side chooses it (`preprocess.py`): edges that 32-bit floats hold exactly, if they are near. */
private fun Input.stretch(side: Double, resized: Int): Stretch {
    val offset = round((resized - crop) / 2.0).toInt() // halves to the even neighbour, as in Python
    var before = offset
    var after = offset + crop
    if (side == floor(side)) {
        var step = resized / greatestDivisor(resized, side.toInt())
        step /= step and -step // without its powers of two
        val first = before / step * step
        val last = min((after + step - 1) / step * step, resized)
        if (last - first <= MOST_RESIZED * crop) {
            before = first
            after = last
        }
    }
    return Stretch(before * side / resized, after * side / resized, after - before, offset - before)
}

private tailrec fun greatestDivisor(a: Int, b: Int): Int = if (b == 0) a else greatestDivisor(b, a % b)

/** What one pixel of the result is mixed from: the weights of the pixels that begin with [first]. */
private class Weights(val first: Int, val weights: IntArray)

private fun Input.weights(size: Int, from: Double, to: Double, resized: Int): List<Weights> {
    val (start, end) = from.toFloat() to to.toFloat() // Pillow's box has floats
    val scale = (end - start).toDouble() / resized
    val stretch = max(scale, 1.0)
    val reach = interpolation.reach * stretch
    return List(resized) { x ->
        val center = start + (x + 0.5) * scale
        val first = max(0, (center - reach + 0.5).toInt())
        val last = min(size, (center + reach + 0.5).toInt())
        val exact = (first until last).map { interpolation.weight((it - center + 0.5) * (1 / stretch)) }
        val sum = exact.sum()
        Weights(first, IntArray(exact.size) { fixedPoint(if (sum == 0.0) exact[it] else exact[it] / sum) })
    }
}

private fun fixedPoint(weight: Double) = (weight * (1 shl PRECISION) + if (weight < 0) -0.5 else 0.5).toInt()

/** One pixel of one channel: levels that lie [step] apart, weighted. */
private fun mix(levels: ByteArray, start: Int, step: Int, weights: Weights): Byte {
    var sum = 1 shl (PRECISION - 1)
    weights.weights.forEachIndexed { index, weight -> sum += (levels[start + index * step].toInt() and 0xFF) * weight }
    return (sum shr PRECISION).coerceIn(0, 255).toByte()
}

/** Levels [crop,crop,3] to what the model computes with: float32 [1,3,crop,crop], less the mean, over the deviation. */
fun Input.normalize(levels: ByteArray): FloatArray {
    val plane = crop * crop
    return FloatArray(3 * plane) { index ->
        val channel = index / plane
        ((levels[3 * (index % plane) + channel].toInt() and 0xFF) / 255f - mean[channel]) / std[channel]
    }
}
