// swift-tools-version: 5.9
import PackageDescription

let package = Package(
    name: "ClassifierKit",
    platforms: [.iOS(.v17), .macOS(.v14)],
    products: [.library(name: "ClassifierKit", targets: ["ClassifierKit"])],
    targets: [
        .target(name: "ClassifierKit"),
        .testTarget(name: "ClassifierKitTests", dependencies: ["ClassifierKit"]),
    ]
)
