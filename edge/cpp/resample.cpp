#include "resample.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>

namespace {

constexpr int kMostResized = 3;  // times the crop's size
constexpr int kPrecision = 22;  // bits after the point of a weight; Pillow's, so that every level is rounded alike

double bilinear(double x) { return std::max(0.0, 1 - std::abs(x)); }

double bicubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

struct Filter {
  double (*weight)(double);
  double reach;  // in pixels of the smaller of the two sizes
};

// For one pixel of the result: where its weights begin, and the weights.
struct Weights {
  int first;
  std::vector<int> weights;
};

std::vector<Weights> weights_of(int size, float from, float to, int result, const Filter& filter) {
  const double scale = static_cast<double>(to - from) / result, stretch = std::max(scale, 1.0);
  const double reach = filter.reach * stretch;
  std::vector<Weights> all(result);
  for (int x = 0; x < result; ++x) {
    const double center = from + (x + 0.5) * scale;
    const int first = std::max(0, static_cast<int>(center - reach + 0.5));
    const int last = std::min(size, static_cast<int>(center + reach + 0.5));
    std::vector<double> exact;
    double sum = 0;
    for (int i = first; i < last; ++i) {
      exact.push_back(filter.weight((i - center + 0.5) * (1 / stretch)));
      sum += exact.back();
    }
    all[x].first = first;
    for (double weight : exact) {
      if (sum != 0) weight /= sum;
      all[x].weights.push_back(static_cast<int>(weight * (1 << kPrecision) + (weight < 0 ? -0.5 : 0.5)));
    }
  }
  return all;
}

// One pixel of one channel: the levels `step` apart, weighted.
std::uint8_t mix(const std::uint8_t* levels, std::size_t step, const Weights& weights) {
  int sum = 1 << (kPrecision - 1);
  for (std::size_t i = 0; i < weights.weights.size(); ++i) sum += levels[i * step] * weights.weights[i];
  return static_cast<std::uint8_t>(std::clamp(sum >> kPrecision, 0, 255));
}

// Python's round(): halves to the even neighbour.
int round_half_even(double value) { return static_cast<int>(std::nearbyint(value)); }

// A part of one side that is resized, of which the crop is a part.
struct Stretch {
  double begin, end;  // in pixels of the picture
  int resized;        // pixels that this part becomes
  int skipped;        // of those, how many lie before the crop
};

// As handlers/classifier/preprocess.py chooses it: edges that 32-bit floats hold exactly, if they are near.
Stretch stretch_of(double side, int resized, int crop) {
  const int offset = round_half_even((resized - crop) / 2.0);
  int before = offset, after = offset + crop;
  if (side == std::floor(side)) {
    int step = resized / std::gcd(resized, static_cast<int>(side));
    step /= step & -step;  // without its powers of two
    const int first = before / step * step, last = std::min((after + step - 1) / step * step, resized);
    if (last - first <= kMostResized * crop) {
      before = first;
      after = last;
    }
  }
  return {before * side / resized, after * side / resized, after - before, offset - before};
}

}  // namespace

std::vector<std::uint8_t> resize_and_crop(const Picture& picture, int resize, int crop, const std::string& interpolation) {
  if (interpolation != "bilinear" && interpolation != "bicubic") {
    throw std::invalid_argument("interpolation " + interpolation + " is neither bilinear nor bicubic");
  }
  const Filter filter = interpolation == "bilinear" ? Filter{bilinear, 1} : Filter{bicubic, 2};
  const double width = picture.extent_width, height = picture.extent_height;
  const int longer = static_cast<int>(resize * std::max(width, height) / std::min(width, height));
  const Stretch columns = stretch_of(width, width <= height ? resize : longer, crop);
  const Stretch rows = stretch_of(height, width <= height ? longer : resize, crop);

  // Rows first, and only those that the filter reaches, then columns: each rounded to whole levels.
  const double scale = (rows.end - rows.begin) / rows.resized;
  const int margin = static_cast<int>(std::ceil(filter.reach * std::max(1.0, scale))) + 1;
  int top = std::max(0, static_cast<int>(std::floor(rows.begin)) - margin);
  int bottom = std::min(picture.height, static_cast<int>(std::ceil(rows.end)) + margin);
  if (bottom - top > picture.height / 2.0) {
    top = 0;
    bottom = picture.height;
  }
  const auto across = weights_of(picture.width, float(columns.begin), float(columns.end), columns.resized, filter);
  std::vector<std::uint8_t> narrow(std::size_t{3} * crop * (bottom - top));
  for (int y = top; y < bottom; ++y) {
    for (int x = 0; x < crop; ++x) {
      const Weights& weights = across[columns.skipped + x];
      for (int c = 0; c < 3; ++c) {
        const auto* levels = &picture.rgb[3 * (std::size_t(y) * picture.width + weights.first) + c];
        narrow[3 * (std::size_t(y - top) * crop + x) + c] = mix(levels, 3, weights);
      }
    }
  }
  const auto down = weights_of(bottom - top, float(rows.begin - top), float(rows.end - top), rows.resized, filter);
  std::vector<std::uint8_t> square(std::size_t{3} * crop * crop);
  const std::size_t row = std::size_t{3} * crop;
  for (int y = 0; y < crop; ++y) {
    const Weights& weights = down[rows.skipped + y];
    for (std::size_t i = 0; i < row; ++i) square[row * y + i] = mix(&narrow[row * weights.first + i], row, weights);
  }
  return square;
}
