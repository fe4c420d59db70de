package classifier

import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import javax.imageio.ImageIO
import org.json.JSONObject
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test

/** Held to Python's answers: the golden vectors of the bundle that the system property `bundle` names. */
class GoldenTest {
    private val folder = File(System.getProperty("bundle"))
    private val bundle = ModelBundle.parse(folder.resolve("bundle.json").readText())
    private val golden = folder.resolve("golden").listFiles()!!.sorted()

    @Test
    fun `photographs become the tensors that Python makes of them`() {
        val photographs = golden.filter { it.extension == "png" } // JPEG decoders differ among each other, Java's from all
        assertTrue("no PNG in $folder", photographs.isNotEmpty())
        for (photograph in photographs) {
            val expected = tensor(photograph.resolveSibling("${photograph.nameWithoutExtension}.npy"))
            val found = bundle.input.run { normalize(resizeAndCrop(decode(photograph))) }
            assertArrayEquals(photograph.name, expected, found, 1e-6f) // a level is at least 0.0078
        }
    }

    @Test
    fun `logits become Python's predictions`() {
        val answers = golden.filter { it.extension == "json" }
        assertTrue("no answers in $folder", answers.isNotEmpty())
        for (file in answers) {
            val answer = JSONObject(file.readText())
            val logits = answer.getJSONArray("logits").run { FloatArray(length()) { getDouble(it).toFloat() } }
            val found = bundle.rank(logits)
            val expected = answer.getJSONArray("predictions").run { List(length(), ::getJSONObject) }
            assertEquals(file.name, expected.map { it.getString("class_id") }, found.map { it.label.id })
            assertEquals(file.name, expected.map { it.getString("class_name") }, found.map { it.label.name })
            expected.zip(found) { wanted, got -> assertEquals(wanted.getDouble("probability"), got.probability.toDouble(), 1e-6) }
        }
    }
}

/** The levels as they are in the file: Python takes no notice of colour profiles either. */
private fun decode(photograph: File): Picture {
    val raster = ImageIO.read(photograph).raster
    val samples = raster.getPixels(0, 0, raster.width, raster.height, null as IntArray?)
    val bands = raster.numBands // 3, or 4 with transparency
    val rgba = ByteArray(4 * raster.width * raster.height) {
        val channel = it % 4
        if (channel < bands) samples[it / 4 * bands + channel].toByte() else -1
    }
    return Picture(raster.width, raster.height, Picture.levels(rgba))
}

/** The float32 values of a `.npy` file: magic and version in 8 bytes, the length of a header, the header, the values. */
private fun tensor(file: File): FloatArray {
    val bytes = ByteBuffer.wrap(file.readBytes()).order(ByteOrder.LITTLE_ENDIAN)
    val header = ByteArray(bytes.getShort(8).toInt()).also { bytes.position(10).get(it) }.decodeToString()
    check("'descr': '<f4', 'fortran_order': False" in header) { "$file: $header" }
    return bytes.slice().order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer().run { FloatArray(remaining()).also(::get) }
}
