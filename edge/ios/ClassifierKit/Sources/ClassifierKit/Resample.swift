import Foundation

private let precision = 22 // bits after the point of a weight; Pillow's, so that every level is rounded alike

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

extension ModelBundle.Input {
    /// Resizes the short side of a picture with antialiasing and cuts out the middle: the same levels as Pillow's.
    ///
    /// Only what the crop needs is computed, rows first, then columns, each rounded to whole levels. Returns the levels of
    /// crop x crop pixels, three bytes each.
    public func resizeAndCrop(_ picture: Picture) -> [UInt8] {
        let (width, height) = (picture.extentWidth, picture.extentHeight)
        let longer = Int(Double(resize) * max(width, height) / min(width, height))
        let resizedHeight = width <= height ? longer : resize
        let (left, right) = cropEdges(of: width, resizedTo: width <= height ? resize : longer)
        let (top, bottom) = cropEdges(of: height, resizedTo: resizedHeight)

        let margin = Int((interpolation.reach * max(1, height / Double(resizedHeight))).rounded(.up)) + 1 // rows beyond the crop
        let first = max(0, Int(top.rounded(.down)) - margin)
        let rows = min(picture.height, Int(bottom.rounded(.up)) + margin) - first

        var narrow = [UInt8](repeating: 0, count: 3 * crop * rows)
        let across = weights(size: picture.width, from: left, to: right)
        for y in 0..<rows {
            for x in 0..<crop {
                let start = 3 * ((first + y) * picture.width + across[x].first)
                for channel in 0..<3 {
                    narrow[3 * (y * crop + x) + channel] = across[x].mix(picture.rgb, from: start + channel, step: 3)
                }
            }
        }
        var square = [UInt8](repeating: 0, count: 3 * crop * crop)
        let down = weights(size: rows, from: top - Double(first), to: bottom - Double(first))
        for y in 0..<crop {
            for i in 0..<3 * crop {
                square[3 * crop * y + i] = down[y].mix(narrow, from: 3 * crop * down[y].first + i, step: 3 * crop)
            }
        }
        return square
    }

    /// Where the crop from the middle of a resized side begins and ends, in pixels of the original side.
    private func cropEdges(of side: Double, resizedTo resized: Int) -> (Double, Double) {
        let offset = (Double(resized - crop) / 2).rounded(.toNearestOrEven) // as Python's round()
        return (offset * side / Double(resized), (offset + Double(crop)) * side / Double(resized))
    }

    private func weights(size: Int, from: Double, to: Double) -> [Weights] {
        let (start, end) = (Double(Float(from)), Double(Float(to))) // Pillow's box has floats
        let scale = Double(Float(end) - Float(start)) / Double(crop)
        let stretch = max(scale, 1)
        let reach = interpolation.reach * stretch
        return (0..<crop).map { x in
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
