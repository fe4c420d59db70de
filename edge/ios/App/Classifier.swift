import ClassifierKit
import ExecuTorch
import Foundation

/// A loaded model. An actor, because ExecuTorch's `Module` is not to be used by two threads at once.
actor Classifier {
    let bundle: ModelBundle
    private let module: Module

    /// Loads what `make mobile` wrote into the folder `Model` of the app.
    init() throws {
        let folder = Bundle.main.bundleURL.appending(path: "Model")
        bundle = try ModelBundle(json: Data(contentsOf: folder.appending(path: "bundle.json")))
        module = Module(filePath: folder.appending(path: "model.pte").path(percentEncoded: false), loadMode: .mmap)
        try module.load("forward")
    }

    /// Throws `Problem` for a picture that cannot be classified, ExecuTorch's errors for a program that does not run.
    func classify(_ data: Data) throws -> [Prediction] {
        let input = bundle.input
        let picture = try Picture(decoding: data, for: input)
        let values = input.normalize(input.resizeAndCrop(picture))
        let tensor = Tensor<Float>(values, shape: [1, 3, input.crop, input.crop])
        return try bundle.rank(Tensor<Float>(module.forward(tensor)).scalars())
    }
}
