package classifier

import kotlin.math.abs
import org.json.JSONException
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

private val BUNDLE = """
    {"model": {"name": "third", "version": "1.0", "weights": "untrained"},
     "input": {"resize": 40, "crop": 32, "interpolation": "bicubic", "mean": [0.5, 0.25, 0], "std": [0.5, 1, 2], "max_pixels": 5000},
     "labels": [{"class_id": "a", "class_name": "ant"}, {"class_id": "b", "class_name": "bee"}, {"class_id": "c", "class_name": "cat"}]}
""".trimIndent()

class KitTest {
    private val bundle = ModelBundle.parse(BUNDLE)
    private val input = bundle.input

    @Test
    fun `a bundle is read`() {
        assertEquals("third", bundle.name)
        assertTrue(bundle.isUntrained)
        assertEquals(listOf(40, 32), listOf(input.resize, input.crop))
        assertEquals(Interpolation.BICUBIC, input.interpolation)
        assertEquals(Label("b", "bee"), bundle.labels[1])
        assertFalse(ModelBundle.parse(BUNDLE.replace("untrained", "IMAGENET1K_V1")).isUntrained)
    }

    @Test
    fun `what is no bundle is refused`() {
        assertThrows(JSONException::class.java) { ModelBundle.parse("{}") }
        assertThrows(IllegalArgumentException::class.java) { ModelBundle.parse(BUNDLE.replace("bicubic", "nearest")) }
    }

    @Test
    fun `too many pixels are refused, with numbers`() {
        input.checkSize(100, 50)
        val problem = assertThrows(Problem::class.java) { input.checkSize(100_000, 100_000) } // more than an Int counts
        assertEquals("image_too_large", problem.code)
        assertEquals("100000 x 100000 pixels are more than the limit of 5000", problem.message)
    }

    @Test
    fun `a decoder leaves twice the pixels that are needed`() {
        val scales = listOf(79, 80, 159, 160, 320, 639, 640, 5000).map { input.decodeScale(it, 9999) }
        assertEquals(listOf(1, 1, 1, 2, 4, 4, 8, 8), scales)
    }

    @Test
    fun `transparency is laid over white`() {
        val levels = Picture.levels(byteArrayOf(16, 32, 48, -1, 16, 32, 48, 0, 0, 0, 0, -128))
        assertArrayEquals(intArrayOf(16, 32, 48, 255, 255, 255, 127, 127, 127), levels.unsigned())
    }

    @Test
    fun `a flat picture stays flat, whatever its shape`() {
        for ((width, height) in listOf(7 to 5, 40 to 900, 900 to 40, 32 to 32, 1 to 300)) {
            val square = input.resizeAndCrop(Picture(width, height, ByteArray(3 * width * height) { 77 }))
            assertEquals(32 * 32 * 3, square.size)
            assertTrue("$width x $height", square.all { it == 77.toByte() })
        }
    }

    @Test
    fun `the middle is cut out, by the size that the picture would have without scaled decoding`() {
        val (width, height, extent) = Triple(81, 101, 80.5)
        val ramp = ByteArray(3 * width * height) { (it / 3 % width * 3).toByte() } // three levels a pixel, from the left
        val square = input.resizeAndCrop(Picture(width, height, ramp, extentWidth = extent)).unsigned()
        for (x in 0 until 32) {
            val center = (4 + x + 0.5) * extent / 40 - 0.5 // 40 pixels less 32 leaves 4 on each side
            assertTrue("$x", abs(square[3 * (16 * 32 + x)] - 3 * center) < 1)
        }
    }

    @Test
    fun `normalised channels lie one after the other`() {
        val levels = ByteArray(3 * 32 * 32).also { it[3] = -1; it[4] = -1; it[5] = -1 } // the second pixel is white
        val tensor = input.normalize(levels)
        assertArrayEquals(floatArrayOf(-1f, -0.25f, 0f), FloatArray(3) { tensor[it * 32 * 32] }, 0f)
        assertArrayEquals(floatArrayOf(1f, 0.75f, 0.5f), FloatArray(3) { tensor[it * 32 * 32 + 1] }, 0f)
    }

    @Test
    fun `of equal classes the first comes first, and no more than there are`() {
        assertEquals(listOf("b", "a", "c"), bundle.rank(floatArrayOf(1f, 90f, 1f)).map { it.label.id })
        assertEquals(1f, bundle.rank(floatArrayOf(-1000f, 1000f, 0f)).first().probability, 0f)
    }

    @Test
    fun `logits of another model, or broken ones, are refused`() {
        assertThrows(IllegalArgumentException::class.java) { bundle.rank(floatArrayOf(1f, 2f)) }
        assertThrows(IllegalArgumentException::class.java) { bundle.rank(floatArrayOf(1f, Float.NaN, 2f)) }
    }
}

private fun ByteArray.unsigned() = IntArray(size) { this[it].toInt() and 0xFF }
