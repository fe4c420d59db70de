package android.graphics

import android.util.Size
import java.io.IOException
import java.nio.Buffer

abstract class Bitmap {
    enum class Config { ARGB_8888 }

    abstract val width: Int
    abstract val height: Int
    abstract val byteCount: Int
    abstract val config: Config?

    abstract fun copy(config: Config, isMutable: Boolean): Bitmap?

    abstract fun copyPixelsToBuffer(dst: Buffer)
}

abstract class ImageDecoder {
    abstract class Source

    abstract class ImageInfo {
        abstract val size: Size
    }

    class DecodeException : IOException()

    fun interface OnHeaderDecodedListener {
        fun onHeaderDecoded(decoder: ImageDecoder, info: ImageInfo, source: Source)
    }

    abstract var allocator: Int
    abstract var isUnpremultipliedRequired: Boolean

    abstract fun setTargetSampleSize(sampleSize: Int)

    companion object {
        const val ALLOCATOR_SOFTWARE = 1

        @JvmStatic
        fun decodeBitmap(src: Source, listener: OnHeaderDecodedListener): Bitmap = TODO("$src $listener")
    }
}
