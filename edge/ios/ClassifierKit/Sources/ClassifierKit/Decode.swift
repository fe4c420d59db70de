#if canImport(ImageIO)
import CoreGraphics
import Foundation
import ImageIO

extension Picture {
    /// Decodes a picture, upright by its EXIF, no larger than the model needs it. Throws `Problem`.
    public init(decoding data: Data, for input: ModelBundle.Input) throws {
        if data.isEmpty { throw Problem(code: "empty_body", detail: "the picture is empty") }
        guard let source = CGImageSourceCreateWithData(data as CFData, nil), CGImageSourceGetType(source) != nil else {
            throw Problem(code: "not_an_image", detail: "this is no picture that can be read here")
        }
        let broken = Problem(code: "image_broken", detail: "the picture is truncated or corrupt")
        guard let properties = CGImageSourceCopyPropertiesAtIndex(source, 0, nil) as? [CFString: Any],
              let width = properties[kCGImagePropertyPixelWidth] as? Int,
              let height = properties[kCGImagePropertyPixelHeight] as? Int
        else { throw broken }
        try input.checkSize(width: width, height: height)
        let scale = input.decodeScale(width: width, height: height)
        let options: [CFString: Any] = [
            kCGImageSourceSubsampleFactor: scale,
            kCGImageSourceShouldCacheImmediately: true, // decoded now, so that the status below tells of all its data
        ]
        guard let image = CGImageSourceCreateImageAtIndex(source, 0, options as CFDictionary),
              CGImageSourceGetStatusAtIndex(source, 0) == .statusComplete,
              let rgb = Self.levels(of: image)
        else { throw broken }
        let picture = Picture(
            width: image.width, height: image.height, rgb: rgb,
            // a format that cannot be subsampled comes in full
            extentWidth: image.width == width ? nil : Double(width) / Double(scale),
            extentHeight: image.height == height ? nil : Double(height) / Double(scale))
        self = picture.upright(properties[kCGImagePropertyOrientation] as? Int ?? 1)
    }

    /// RGB over white. Drawn in the picture's own colours, so that nothing is converted: Python takes no notice of
    /// colour profiles either.
    private static func levels(of image: CGImage) -> [UInt8]? {
        let (width, height) = (image.width, image.height)
        let own = image.colorSpace.flatMap { $0.model == .rgb && $0.supportsOutput ? $0 : nil }
        guard let space = own ?? CGColorSpace(name: CGColorSpace.sRGB) else { return nil }
        var rgbx = [UInt8](repeating: 255, count: 4 * width * height)
        let drawn = rgbx.withUnsafeMutableBytes { bytes in
            let context = CGContext(
                data: bytes.baseAddress, width: width, height: height, bitsPerComponent: 8, bytesPerRow: 4 * width,
                space: space, bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue)
            context?.draw(image, in: CGRect(x: 0, y: 0, width: width, height: height))
            return context != nil
        }
        guard drawn else { return nil }
        return [UInt8](unsafeUninitializedCapacity: 3 * width * height) { rgb, count in
            for pixel in 0..<width * height {
                for channel in 0..<3 { rgb[3 * pixel + channel] = rgbx[4 * pixel + channel] }
            }
            count = 3 * width * height
        }
    }
}
#endif
