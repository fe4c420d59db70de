package android.content.pm

class PackageInfo(@JvmField var lastUpdateTime: Long)

abstract class PackageManager {
    abstract fun getPackageInfo(packageName: String, flags: Int): PackageInfo
}
