import Foundation

/// What is wrong with a picture. `code` is that of the HTTP contract, `detail` is for the person.
public struct Problem: LocalizedError, Equatable {
    public let code: String
    public let detail: String

    public var errorDescription: String? { detail }
}
