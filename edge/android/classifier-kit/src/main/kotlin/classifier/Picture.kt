package classifier

import kotlin.math.min

private const val WHITE = 255

/**
 * An upright picture: [rgb] has the levels of [height] rows, three bytes a pixel.
 *
 * [extentWidth] and [extentHeight] are its size in these pixels: decoded at a quarter, 4510 pixels are 1127.5, the last
 * one of which is cut.
 */
class Picture(
    val width: Int,
    val height: Int,
    val rgb: ByteArray,
    val extentWidth: Double = width.toDouble(),
    val extentHeight: Double = height.toDouble(),
) {
    companion object {
        /** RGBA, four bytes a pixel, to RGB: transparency is laid over white. */
        fun levels(rgba: ByteArray) = ByteArray(rgba.size / 4 * 3) {
            val pixel = it / 3 * 4
            overWhite(rgba[pixel + it % 3].toInt() and 0xFF, rgba[pixel + 3].toInt() and 0xFF).toByte()
        }
    }
}

/** Rounded as Pillow does, to be level with the Python side. */
private fun overWhite(level: Int, alpha: Int): Int {
    val sum = level * alpha + WHITE * (WHITE - alpha) + 128
    return ((sum shr 8) + sum) shr 8
}

/** By how much a decoder may shrink a picture of which [Input.resize] pixels are needed: 1, 2, 4 or 8. */
fun Input.decodeScale(width: Int, height: Int): Int {
    val spare = min(width, height) / (DECODE_MARGIN * resize)
    return listOf(8, 4, 2).firstOrNull { spare >= it } ?: 1
}

private const val DECODE_MARGIN = 2 // the resize that follows gets twice the pixels it needs

/** @throws Problem more pixels than the model's recipe allows; asked with what the header says, before decoding. */
fun Input.checkSize(width: Int, height: Int) {
    if (width.toLong() * height > maxPixels) {
        throw Problem("image_too_large", "$width x $height pixels are more than the limit of $maxPixels")
    }
}
