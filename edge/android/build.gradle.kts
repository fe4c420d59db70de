plugins {
    id("com.android.application") version "9.1.0" apply false // compiles the app's Kotlin too, with the version below
    id("org.jetbrains.kotlin.jvm") version "2.4.0" apply false
    id("org.jetbrains.kotlin.plugin.compose") version "2.4.0" apply false
}
