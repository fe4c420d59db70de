import Foundation

private let precision = 22 // bits after the point of a weight; Pillow's, so that every level is rounded alike
private let mostResized = 3 // times the crop's size

public enum Interpolation: String, Decodable, Sendable {
    case bilinear, bicubic

    /// How far the filter reaches, in pixels of the smaller of two sizes.
    var reach: Double { self == .bilinear ? 1 : 2 }

    /// The weight of a pixel by its distance.
    func weight(_ distance: Double) -> Double {
        let x = abs(distance)
        switch self {
        case .bilinear:
            return max(0, 1 - x)
        case .bicubic:
            let a = -0.5
            if x < 1 { return ((a + 2) * x - (a + 3)) * x * x + 1 }
            return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0
        }
    }
}

/// What one pixel of the result is mixed from: the weights of the pixels that begin with `first`.
private struct Weights {
    let first: Int
    let weights: [Int]

    /// One pixel of one channel, of levels that lie `step` apart.
    func mix(_ levels: [UInt8], from start: Int, step: Int) -> UInt8 {
        var sum = 1 << (precision - 1)
        for (index, weight) in weights.enumerated() { sum += Int(levels[start + index * step]) * weight }
        return UInt8(min(max(sum >> precision, 0), 255))
    }
}

/// A part of one side that is resized, of which the crop is a part.
private struct Stretch {
    let begin, end: Double // in pixels of the picture
    let resized: Int // pixels that this part becomes
    let skipped: Int // of those, how many lie before the crop
}

private func greatestDivisor(_ a: Int, _ b: Int) -> Int {
    b == 0 ? a : greatestDivisor(b, a % b)
}

extension ModelBundle.Input {
    /// Resizes the short side of a picture with antialiasing and cuts out the middle: the same levels as Pillow's.
    ///
    /// Only what the crop needs is computed, rows first, then columns, each rounded to whole levels. Returns the levels of
    /// crop x crop pixels, three bytes each.
    public func resizeAndCrop(_ picture: Picture) -> [UInt8] {
        let (width, height) = (picture.extentWidth, picture.extentHeight)
        let longer = Int(Double(resize) * max(width, height) / min(width, height))
        let columns = stretch(of: width, resizedTo: width <= height ? resize : longer)
        let rows = stretch(of: height, resizedTo: width <= height ? longer : resize)

        let scale = (rows.end - rows.begin) / Double(rows.resized)
        let margin = Int((interpolation.reach * max(1, scale)).rounded(.up)) + 1 // rows beyond the crop
        var first = max(0, Int(rows.begin.rounded(.down)) - margin)
        var last = min(picture.height, Int(rows.end.rounded(.up)) + margin)
        if Double(last - first) > Double(picture.height) / 2 {
            first = 0
            last = picture.height
        }

        var narrow = [UInt8](repeating: 0, count: 3 * crop * (last - first))
        let across = weights(size: picture.width, from: columns.begin, to: columns.end, resizedTo: columns.resized)
        for y in 0..<last - first {
            for x in 0..<crop {
                let mixed = across[columns.skipped + x]
                let start = 3 * ((first + y) * picture.width + mixed.first)
                for channel in 0..<3 {
                    narrow[3 * (y * crop + x) + channel] = mixed.mix(picture.rgb, from: start + channel, step: 3)
                }
            }
        }
        var square = [UInt8](repeating: 0, count: 3 * crop * crop)
        let (begin, end) = (rows.begin - Double(first), rows.end - Double(first))
        let down = weights(size: last - first, from: begin, to: end, resizedTo: rows.resized)
        for y in 0..<crop {
            let mixed = down[rows.skipped + y]
            for i in 0..<3 * crop {
                square[3 * crop * y + i] = mixed.mix(narrow, from: 3 * crop * mixed.first + i, step: 3 * crop)
            }
        }
        return square
    }

    /// As the Python side chooses it (`preprocess.py`): edges that 32-bit floats hold exactly, if they are near.
    private func stretch(of side: Double, resizedTo resized: Int) -> Stretch {
        let offset = Int((Double(resized - crop) / 2).rounded(.toNearestOrEven)) // as Python's round()
        var (before, after) = (offset, offset + crop)
        if side == side.rounded(.down) {
            var step = resized / greatestDivisor(resized, Int(side))
            step /= step & -step // without its powers of two
            let first = before / step * step
            let last = min((after + step - 1) / step * step, resized)
            if last - first <= mostResized * crop { (before, after) = (first, last) }
        }
        return Stretch(
            begin: Double(before) * side / Double(resized), end: Double(after) * side / Double(resized),
            resized: after - before, skipped: offset - before)
    }

    private func weights(size: Int, from: Double, to: Double, resizedTo resized: Int) -> [Weights] {
        let (start, end) = (Double(Float(from)), Double(Float(to))) // Pillow's box has floats
        let scale = Double(Float(end) - Float(start)) / Double(resized)
        let stretch = max(scale, 1)
        let reach = interpolation.reach * stretch
        return (0..<resized).map { x in
            let center = start + (Double(x) + 0.5) * scale
            let first = max(0, Int(center - reach + 0.5))
            let last = min(size, Int(center + reach + 0.5))
            let exact = (first..<last).map { interpolation.weight((Double($0) - center + 0.5) * (1 / stretch)) }
            let sum = exact.reduce(0, +)
            return Weights(first: first, weights: exact.map { fixedPoint(sum == 0 ? $0 : $0 / sum) })
        }
    }

    private func fixedPoint(_ weight: Double) -> Int {
        Int(weight * Double(1 << precision) + (weight < 0 ? -0.5 : 0.5))
    }

    /// Levels [crop,crop,3] to what the model computes with: float32 [1,3,crop,crop], less the mean, over the deviation.
    public func normalize(_ levels: [UInt8]) -> [Float] {
        (0..<3).flatMap { channel in
            stride(from: channel, to: levels.count, by: 3).map { (Float(levels[$0]) / 255 - mean[channel]) / std[channel] }
        }
    }
}
