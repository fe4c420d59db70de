plugins {
    id("com.android.application")
    id("org.jetbrains.kotlin.plugin.compose")
}

android {
    namespace = "classifier.app"
    compileSdk = 36
    defaultConfig {
        applicationId = "org.example.classifier"
        minSdk = 29 // since then a photograph can be put into the gallery without any permission
        targetSdk = 36
        versionCode = 1
        versionName = "1.0"
    }
    buildFeatures {
        compose = true
    }
}

dependencies {
    implementation(project(":classifier-kit"))
    implementation("org.pytorch:executorch-android:1.5.1") // as the Python package that wrote the .pte; XNNPACK is inside
    implementation(platform("androidx.compose:compose-bom:2026.05.00"))
    implementation("androidx.compose.material3:material3")
    implementation("androidx.activity:activity-compose:1.13.0")
}
