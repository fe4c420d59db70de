package org.pytorch.executorch

abstract class Tensor {
    abstract val dataAsFloatArray: FloatArray

    companion object {
        @JvmStatic
        fun fromBlob(data: FloatArray, shape: LongArray): Tensor = TODO("$data $shape")
    }
}

abstract class EValue {
    abstract fun toTensor(): Tensor

    companion object {
        @JvmStatic
        fun from(t: Tensor): EValue = TODO("$t")
    }
}

abstract class Module {
    abstract fun forward(vararg inputs: EValue): Array<EValue>

    companion object {
        const val LOAD_MODE_MMAP = 1

        @JvmStatic
        @JvmOverloads
        fun load(modelPath: String?, loadMode: Int = 0, numThreads: Int = 0): Module = TODO("$modelPath $loadMode $numThreads")
    }
}
