package classifier.app

import android.content.Context
import classifier.ModelBundle
import classifier.Picture
import classifier.Prediction
import classifier.normalize
import classifier.rank
import classifier.resizeAndCrop
import java.io.File
import org.pytorch.executorch.EValue
import org.pytorch.executorch.Module
import org.pytorch.executorch.Tensor

private const val BUNDLE = "bundle.json"
private const val PROGRAM = "model.pte"

/** A loaded model. Module runs one forward at a time, whichever threads ask. */
class Classifier private constructor(val bundle: ModelBundle, private val module: Module) {
    /** @throws RuntimeException ExecuTorch cannot run the program, or it is not that of the bundle. */
    fun classify(picture: Picture): List<Prediction> {
        val input = bundle.input
        val side = input.crop.toLong()
        val tensor = Tensor.fromBlob(input.normalize(input.resizeAndCrop(picture)), longArrayOf(1, 3, side, side))
        return bundle.rank(module.forward(EValue.from(tensor)).first().toTensor().dataAsFloatArray)
    }

    companion object {
        /** The model of the app's assets. Takes its time: not for the main thread. */
        fun load(context: Context): Classifier {
            val bundle = ModelBundle.parse(context.assets.open(BUNDLE).bufferedReader().use { it.readText() })
            return Classifier(bundle, Module.load(program(context).path, Module.LOAD_MODE_MMAP))
        }

        /** ExecuTorch reads files only, so the asset is copied, once after each installation. */
        private fun program(context: Context): File {
            val file = File(context.noBackupFilesDir, PROGRAM)
            val installed = context.packageManager.getPackageInfo(context.packageName, 0).lastUpdateTime
            if (file.lastModified() < installed) {
                val unfinished = File(file.path + ".part") // a copy that was interrupted is no program
                context.assets.open(PROGRAM).use { from -> unfinished.outputStream().use(from::copyTo) }
                check(unfinished.renameTo(file)) { "$file cannot be written" }
            }
            return file
        }
    }
}
