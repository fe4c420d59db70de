import org.jetbrains.kotlin.gradle.dsl.JvmTarget

plugins {
    id("org.jetbrains.kotlin.jvm")
}

java {
    sourceCompatibility = JavaVersion.VERSION_11
    targetCompatibility = JavaVersion.VERSION_11
}

kotlin {
    compilerOptions {
        jvmTarget = JvmTarget.JVM_11
        allWarningsAsErrors = true
    }
}

dependencies {
    compileOnly("org.json:json:20250517") // Android has these classes itself
    testImplementation("org.json:json:20250517")
    testImplementation("junit:junit:4.13.2")
}

tasks.test {
    systemProperty("bundle", providers.gradleProperty("bundle").getOrElse("../../../bundles/efficientnet_lite0-mobile"))
}
