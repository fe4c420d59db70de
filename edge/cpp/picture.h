// Bytes to an upright RGB picture: JPEG and PNG.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

struct Picture {
  int width = 0, height = 0;
  std::vector<std::uint8_t> rgb;  // [height, width, 3]
  // The picture's size in these pixels. Scaled down, 4510 pixels are 1127.5, the last one of which is cut.
  double extent_width = 0, extent_height = 0;
};

// What is wrong with a picture; `code` is that of the HTTP contract.
struct Problem : std::runtime_error {
  Problem(std::string code, const std::string& detail) : std::runtime_error(detail), code(std::move(code)) {}
  std::string code;
};

// Decodes a JPEG or PNG: upright by EXIF, transparency over white. A JPEG whose short side has at least twice
// `short_side` pixels is decoded at a half, a quarter or an eighth of its size.
// Throws Problem.
Picture decode(const std::vector<std::uint8_t>& bytes, std::int64_t max_pixels, int short_side);
