// What the app's files beside the views use of Android and ExecuTorch, so that they can be type-checked without either.
package android.content

import android.content.pm.PackageManager
import android.content.res.AssetManager
import java.io.File

abstract class Context {
    abstract val applicationContext: Context
    abstract val assets: AssetManager
    abstract val noBackupFilesDir: File
    abstract val packageManager: PackageManager
    abstract val packageName: String
}
