import Foundation

/// One class, and how likely the model thinks it, 0…1.
public struct Prediction: Identifiable, Sendable {
    public let label: ModelBundle.Label
    public let probability: Float

    public var id: String { label.classId }
}

extension ModelBundle {
    /// The five likeliest classes of one picture, likeliest first; of equal ones the first.
    ///
    /// Throws `Problem` when the logits are not of this bundle's model, or not finite.
    public func rank(_ logits: [Float]) throws -> [Prediction] {
        guard logits.count == labels.count else {
            throw Problem(code: "internal", detail: "\(logits.count) logits for \(labels.count) labels")
        }
        guard let most = logits.max(), logits.allSatisfy(\.isFinite) else {
            throw Problem(code: "internal", detail: "the logits are not finite")
        }
        let powers = logits.map { exp($0 - most) }
        let sum = powers.reduce(0, +)
        let best = powers.indices.sorted { (-powers[$0], $0) < (-powers[$1], $1) }.prefix(5)
        return best.map { Prediction(label: labels[$0], probability: powers[$0] / sum) }
    }
}
