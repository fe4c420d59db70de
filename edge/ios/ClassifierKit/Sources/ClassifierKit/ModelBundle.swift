import Foundation

/// All that the program knows of its model, read from `bundle.json`: nothing of it is written down here.
public struct ModelBundle: Decodable, Sendable {
    public struct Model: Decodable, Sendable {
        public let name: String
        public let weights: String
    }

    /// How a picture becomes what the model looks at.
    public struct Input: Decodable, Sendable {
        public let resize: Int // pixels of the short side
        public let crop: Int // side of the square that is cut out of the middle
        public let interpolation: Interpolation
        public let mean: [Float] // of red, green, blue, on levels scaled to 0…1
        public let std: [Float]
        public let maxPixels: Int // more are refused before they are decoded
    }

    /// A class as the labels name it.
    public struct Label: Decodable, Sendable, Hashable {
        public let classId: String
        public let className: String
    }

    public let model: Model
    public let input: Input
    public let labels: [Label]

    /// Throws `DecodingError` when this is not the content of a `bundle.json`.
    public init(json: Data) throws {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        self = try decoder.decode(Self.self, from: json)
    }

    /// The weights are random, and the answers with them.
    public var isUntrained: Bool { model.weights == "untrained" }
}
