import ClassifierKit
import Foundation
import XCTest

private let json = """
    {"model": {"name": "third", "version": "1.0", "weights": "untrained"},
     "input": {"resize": 40, "crop": 32, "interpolation": "bicubic", "mean": [0.5, 0.25, 0], "std": [0.5, 1, 2], "max_pixels": 5000},
     "labels": [{"class_id": "a", "class_name": "ant"}, {"class_id": "b", "class_name": "bee"}, {"class_id": "c", "class_name": "cat"}]}
    """

final class KitTests: XCTestCase {
    private let bundle = try! ModelBundle(json: Data(json.utf8))

    func testABundleIsRead() {
        XCTAssertEqual(bundle.model.name, "third")
        XCTAssertTrue(bundle.isUntrained)
        XCTAssertEqual([bundle.input.resize, bundle.input.crop, bundle.input.maxPixels], [40, 32, 5000])
        XCTAssertEqual(bundle.input.interpolation, .bicubic)
        XCTAssertEqual(bundle.labels[1].className, "bee")
    }

    func testWhatIsNoBundleIsRefused() {
        XCTAssertThrowsError(try ModelBundle(json: Data("{}".utf8)))
        XCTAssertThrowsError(try ModelBundle(json: Data(json.replacingOccurrences(of: "bicubic", with: "nearest").utf8)))
    }

    func testTooManyPixelsAreRefusedWithNumbers() {
        XCTAssertNoThrow(try bundle.input.checkSize(width: 100, height: 50))
        XCTAssertThrowsError(try bundle.input.checkSize(width: 100_000, height: 100_000)) {
            XCTAssertEqual(($0 as? Problem)?.code, "image_too_large")
            XCTAssertEqual($0.localizedDescription, "100000 x 100000 pixels are more than the limit of 5000")
        }
    }

    func testADecoderLeavesTwiceThePixelsThatAreNeeded() {
        let scales = [79, 80, 159, 160, 320, 639, 640, 5000].map { bundle.input.decodeScale(width: $0, height: 9999) }
        XCTAssertEqual(scales, [1, 1, 1, 2, 4, 4, 8, 8])
    }

    func testEveryOrientationIsTurnedUpright() {
        // two pixels over one of each: 1 2 / 3 4 / 5 6
        let picture = Picture(width: 2, height: 3, rgb: (1...6).flatMap { [UInt8](repeating: $0, count: 3) })
        let upright: [Int: [UInt8]] = [
            1: [1, 2, 3, 4, 5, 6], 2: [2, 1, 4, 3, 6, 5], 3: [6, 5, 4, 3, 2, 1], 4: [5, 6, 3, 4, 1, 2],
            5: [1, 3, 5, 2, 4, 6], 6: [5, 3, 1, 6, 4, 2], 7: [6, 4, 2, 5, 3, 1], 8: [2, 4, 6, 1, 3, 5],
        ]
        for (orientation, expected) in upright {
            let turned = picture.upright(orientation)
            XCTAssertEqual(stride(from: 0, to: 18, by: 3).map { turned.rgb[$0] }, expected, "\(orientation)")
            XCTAssertEqual(turned.width, orientation < 5 ? 2 : 3)
        }
    }

    func testAFlatPictureStaysFlatWhateverItsShape() {
        for (width, height) in [(7, 5), (40, 900), (900, 40), (32, 32), (1, 300)] {
            let flat = Picture(width: width, height: height, rgb: [UInt8](repeating: 77, count: 3 * width * height))
            XCTAssertEqual(bundle.input.resizeAndCrop(flat), [UInt8](repeating: 77, count: 3 * 32 * 32))
        }
    }

    func testTheMiddleIsCutOutByTheSizeWithoutScaledDecoding() {
        let (width, height, extent) = (81, 101, 80.5)
        let ramp = (0..<3 * width * height).map { UInt8($0 / 3 % width * 3) } // three levels a pixel, from the left
        let square = bundle.input.resizeAndCrop(Picture(width: width, height: height, rgb: ramp, extentWidth: extent))
        for x in 0..<32 {
            let center = (4 + Double(x) + 0.5) * extent / 40 - 0.5 // 40 pixels less 32 leaves 4 on each side
            XCTAssertEqual(Double(square[3 * (16 * 32 + x)]), 3 * center, accuracy: 1)
        }
    }

    func testNormalisedChannelsLieOneAfterTheOther() {
        let levels = (0..<3 * 32 * 32).map { (3...5).contains($0) ? 255 : 0 as UInt8 } // the second pixel is white
        let tensor = bundle.input.normalize(levels)
        XCTAssertEqual((0..<3).map { tensor[$0 * 32 * 32] }, [-1, -0.25, 0])
        XCTAssertEqual((0..<3).map { tensor[$0 * 32 * 32 + 1] }, [1, 0.75, 0.5])
    }

    func testOfEqualClassesTheFirstComesFirst() throws {
        XCTAssertEqual(try bundle.rank([1, 90, 1]).map(\.id), ["b", "a", "c"])
        XCTAssertEqual(try bundle.rank([-1000, 1000, 0])[0].probability, 1)
    }

    func testLogitsOfAnotherModelOrBrokenOnesAreRefused() {
        XCTAssertThrowsError(try bundle.rank([1, 2]))
        XCTAssertThrowsError(try bundle.rank([1, .nan, 2]))
    }
}
