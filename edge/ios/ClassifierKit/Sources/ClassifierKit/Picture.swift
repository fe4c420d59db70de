/// A picture in RGB, three bytes a pixel, row by row.
///
/// `extentWidth` and `extentHeight` are its size in these pixels: decoded at a quarter, 4510 pixels are 1127.5, the last
/// one of which is cut.
public struct Picture {
    public let width: Int
    public let height: Int
    public let rgb: [UInt8]
    public let extentWidth: Double
    public let extentHeight: Double

    public init(width: Int, height: Int, rgb: [UInt8], extentWidth: Double? = nil, extentHeight: Double? = nil) {
        self.width = width
        self.height = height
        self.rgb = rgb
        self.extentWidth = extentWidth ?? Double(width)
        self.extentHeight = extentHeight ?? Double(height)
    }

    /// Turned by its EXIF orientation: 1 (as it is) to 8; others mean 1.
    public func upright(_ orientation: Int) -> Picture {
        guard (2...8).contains(orientation) else { return self }
        let lying = orientation >= 5
        let mirrored = [2, 3, 7, 8].contains(orientation)
        let overhead = [3, 4, 6, 7].contains(orientation)
        let (newWidth, newHeight) = lying ? (height, width) : (width, height)
        var turned = [UInt8]()
        turned.reserveCapacity(rgb.count)
        for y in 0..<newHeight {
            for x in 0..<newWidth {
                let (column, row) = lying ? (y, x) : (x, y)
                let from = 3 * ((overhead ? height - 1 - row : row) * width + (mirrored ? width - 1 - column : column))
                turned.append(contentsOf: rgb[from..<from + 3])
            }
        }
        return Picture(
            width: newWidth, height: newHeight, rgb: turned,
            extentWidth: lying ? extentHeight : extentWidth, extentHeight: lying ? extentWidth : extentHeight)
    }
}

extension ModelBundle.Input {
    /// Throws `Problem` for more pixels than the model's recipe allows; asked with what the header says, before decoding.
    public func checkSize(width: Int, height: Int) throws {
        if width * height > maxPixels {
            throw Problem(
                code: "image_too_large",
                detail: "\(width) x \(height) pixels are more than the limit of \(maxPixels)")
        }
    }

    /// By how much a decoder may shrink a picture: 1, 2, 4 or 8. The resize that follows gets twice the pixels it needs.
    public func decodeScale(width: Int, height: Int) -> Int {
        let spare = min(width, height) / (2 * resize)
        return [8, 4, 2].first { spare >= $0 } ?? 1
    }
}
