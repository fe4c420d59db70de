package classifier.app

import android.graphics.Bitmap
import android.graphics.ImageDecoder
import android.util.Size
import classifier.Input
import classifier.Picture
import classifier.Problem
import classifier.checkSize
import classifier.decodeScale
import java.nio.ByteBuffer

/**
 * Decodes a picture no larger than the model needs it. ImageDecoder turns it upright by its EXIF.
 *
 * @throws Problem what is wrong with the picture.
 * @throws java.io.IOException it cannot be read.
 */
fun Input.decode(source: ImageDecoder.Source): Picture {
    var header: Size? = null
    var scale = 1
    val bitmap = try {
        ImageDecoder.decodeBitmap(source) { decoder, info, _ ->
            header = info.size
            checkSize(info.size.width, info.size.height)
            scale = decodeScale(info.size.width, info.size.height)
            decoder.setTargetSampleSize(scale)
            decoder.isUnpremultipliedRequired = true
            decoder.allocator = ImageDecoder.ALLOCATOR_SOFTWARE // a graphics card's pixels cannot be read
        }
    } catch (error: ImageDecoder.DecodeException) { // no listener for partial pictures is set, so those are refused too
        throw when (header) {
            null -> Problem("not_an_image", "this file is no picture that can be read here", error)
            else -> Problem("image_broken", "the picture is truncated or corrupt", error)
        }
    }
    val original = header ?: Size(bitmap.width, bitmap.height)
    return Picture(
        width = bitmap.width,
        height = bitmap.height,
        rgb = Picture.levels(bitmap.rgba()),
        extentWidth = original.width.toDouble() / scale,
        extentHeight = original.height.toDouble() / scale,
    )
}

/** The levels as they are stored: Python takes no notice of colour profiles either, which getPixels() would apply. */
private fun Bitmap.rgba(): ByteArray {
    val eightBits = if (config == Bitmap.Config.ARGB_8888) this else copy(Bitmap.Config.ARGB_8888, false) // deep PNG, HEIF
    checkNotNull(eightBits) { "no memory for the picture" }
    return ByteBuffer.allocate(eightBits.byteCount).also(eightBits::copyPixelsToBuffer).array()
}
