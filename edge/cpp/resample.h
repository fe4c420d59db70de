// A picture to the square of pixels that a model looks at, in the same levels as Pillow's.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "picture.h"

// Resizes the short side to `resize` pixels, with antialiasing, and cuts the middle `crop` x `crop` out.
// `interpolation` is `bilinear` or `bicubic`. Returns [crop, crop, 3].
std::vector<std::uint8_t> resize_and_crop(const Picture& picture, int resize, int crop, const std::string& interpolation);
