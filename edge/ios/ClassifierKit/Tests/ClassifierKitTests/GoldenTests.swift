import ClassifierKit
import Foundation
import XCTest

/// Held to Python's answers: the golden vectors of the bundle that the environment variable `BUNDLE` names.
final class GoldenTests: XCTestCase {
    private struct Answer: Decodable {
        struct Prediction: Decodable {
            let class_id: String
            let probability: Float
        }

        let predictions: [Prediction]
        let logits: [Float]
    }

    private var folder: URL!
    private var bundle: ModelBundle!
    private var golden: [URL]!

    override func setUpWithError() throws {
        let path = try XCTUnwrap(ProcessInfo.processInfo.environment["BUNDLE"], "BUNDLE names no bundle")
        folder = URL(fileURLWithPath: path)
        bundle = try ModelBundle(json: Data(contentsOf: folder.appendingPathComponent("bundle.json")))
        golden = try FileManager.default.contentsOfDirectory(
            at: folder.appendingPathComponent("golden"), includingPropertiesForKeys: nil)
    }

    func testLogitsBecomePythonsPredictions() throws {
        let answers = golden.filter { $0.pathExtension == "json" }
        XCTAssertFalse(answers.isEmpty)
        for file in answers {
            let answer = try JSONDecoder().decode(Answer.self, from: Data(contentsOf: file))
            let found = try bundle.rank(answer.logits)
            XCTAssertEqual(found.map(\.label.classId), answer.predictions.map(\.class_id), file.lastPathComponent)
            for (got, wanted) in zip(found, answer.predictions) {
                XCTAssertEqual(got.probability, wanted.probability, accuracy: 1e-6)
            }
        }
    }

    #if canImport(ImageIO)
    func testPhotographsBecomePythonsTensors() throws {
        let photographs = golden.filter { $0.pathExtension == "png" } // of one JPEG each decoder makes slightly different pixels
        XCTAssertFalse(photographs.isEmpty)
        for photograph in photographs {
            let picture = try Picture(decoding: Data(contentsOf: photograph), for: bundle.input)
            let found = bundle.input.normalize(bundle.input.resizeAndCrop(picture))
            let expected = try tensor(photograph.deletingPathExtension().appendingPathExtension("npy"))
            XCTAssertEqual(found.count, expected.count)
            let furthest = zip(found, expected).map { abs($0 - $1) }.max()
            XCTAssertLessThan(try XCTUnwrap(furthest), 1e-6, photograph.lastPathComponent) // a level is at least 0.0078
        }
    }

    func testABrokenPictureIsSaid() throws {
        let whole = try Data(contentsOf: XCTUnwrap(golden.first { $0.pathExtension == "png" }))
        let broken = ["empty_body": Data(), "not_an_image": Data("no picture".utf8), "image_broken": whole.prefix(9000)]
        for (code, data) in broken {
            XCTAssertThrowsError(try Picture(decoding: data, for: bundle.input)) { XCTAssertEqual(($0 as? Problem)?.code, code) }
        }
    }
    #endif

    /// The float32 values of a `.npy` file: magic and version in 8 bytes, the length of a header, the header, the values.
    private func tensor(_ file: URL) throws -> [Float] {
        let bytes = [UInt8](try Data(contentsOf: file))
        let start = 10 + Int(bytes[8]) + Int(bytes[9]) << 8
        let header = String(decoding: bytes[10..<start], as: UTF8.self)
        XCTAssertTrue(header.contains("'descr': '<f4', 'fortran_order': False"), header)
        return stride(from: start, to: bytes.count, by: 4).map { index in
            Float(bitPattern: (0..<4).reduce(0) { $0 | UInt32(bytes[index + $1]) << (8 * UInt32($1)) })
        }
    }
}
