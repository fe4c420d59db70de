#include "picture.h"

#include <jpeglib.h>
#include <jerror.h>  // needs jpeglib.h
#include <libexif/exif-data.h>
#include <png.h>

#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <cstring>
#include <memory>

namespace {

void check_size(std::int64_t width, std::int64_t height, std::int64_t max_pixels) {
  if (width * height > max_pixels) {
    throw Problem("image_too_large", std::to_string(width) + " x " + std::to_string(height) +
                                         " pixels are more than the limit of " + std::to_string(max_pixels));
  }
}

struct JpegErrors {
  jpeg_error_mgr manager;
  std::jmp_buf escape;
};

// libjpeg's decompressor, destroyed whatever happens.
struct Decompressor {
  jpeg_decompress_struct info{};
  JpegErrors errors{};
  Decompressor() {
    info.err = jpeg_std_error(&errors.manager);
    errors.manager.error_exit = [](j_common_ptr common) {
      std::longjmp(reinterpret_cast<JpegErrors*>(common->err)->escape, 1);
    };
    errors.manager.output_message = [](j_common_ptr) {};
    // a truncated file is a warning to libjpeg, which would fill the rest with grey
    errors.manager.emit_message = [](j_common_ptr common, int level) {
      if (level < 0) std::longjmp(reinterpret_cast<JpegErrors*>(common->err)->escape, 1);
    };
    jpeg_create_decompress(&info);
  }
  ~Decompressor() { jpeg_destroy_decompress(&info); }
  Decompressor(const Decompressor&) = delete;
  Decompressor& operator=(const Decompressor&) = delete;
};

// Whether libjpeg gave up on a good file of a kind that it does not read: of 12 bits, hierarchical, of two components.
bool is_another_kind(int message) {
  return message == JERR_BAD_PRECISION || message == JERR_SOF_UNSUPPORTED || message == JERR_ARITH_NOTIMPL ||
         message == JERR_CONVERSION_NOTIMPL;
}

// The scale at which Pillow's `draft` decodes: the smallest picture with at least `short_side` pixels a side.
unsigned scale_of(unsigned width, unsigned height, int short_side) {
  const unsigned most = std::min(width, height) / static_cast<unsigned>(short_side);
  return most >= 8 ? 8 : most >= 4 ? 4 : most >= 2 ? 2 : 1;
}

Picture decode_jpeg(const std::vector<std::uint8_t>& bytes, std::int64_t max_pixels, int short_side) {
  Picture picture;  // before setjmp: it must survive the jump
  Decompressor jpeg;
  if (setjmp(jpeg.errors.escape)) {
    if (is_another_kind(jpeg.errors.manager.msg_code)) throw Problem("image_not_supported", "this kind of JPEG is not read");
    throw Problem("image_broken", "the JPEG data is truncated or corrupt");
  }
  jpeg_mem_src(&jpeg.info, bytes.data(), bytes.size());
  jpeg_read_header(&jpeg.info, TRUE);
  check_size(jpeg.info.image_width, jpeg.info.image_height, max_pixels);
  if (jpeg.info.num_components == 4) throw Problem("not_supported", "CMYK JPEGs are not read by this program");
  const unsigned scale = scale_of(jpeg.info.image_width, jpeg.info.image_height, short_side);
  jpeg.info.scale_num = 1;
  jpeg.info.scale_denom = scale;
  jpeg.info.out_color_space = JCS_RGB;
  jpeg_start_decompress(&jpeg.info);
  picture.width = static_cast<int>(jpeg.info.output_width);
  picture.height = static_cast<int>(jpeg.info.output_height);
  picture.extent_width = static_cast<double>(jpeg.info.image_width) / scale;
  picture.extent_height = static_cast<double>(jpeg.info.image_height) / scale;
  picture.rgb.resize(std::size_t{3} * picture.width * picture.height);
  while (jpeg.info.output_scanline < jpeg.info.output_height) {
    JSAMPROW row = picture.rgb.data() + std::size_t{3} * picture.width * jpeg.info.output_scanline;
    jpeg_read_scanlines(&jpeg.info, &row, 1);
  }
  jpeg_finish_decompress(&jpeg.info);
  return picture;
}

// A level of some opacity over white, rounded as Pillow does. libpng would blend in linear light.
std::uint8_t over_white(unsigned level, unsigned alpha) {
  const unsigned sum = level * alpha + 255 * (255 - alpha) + 128;
  return static_cast<std::uint8_t>(((sum >> 8) + sum) >> 8);
}

Picture decode_png(const std::vector<std::uint8_t>& bytes, std::int64_t max_pixels) {
  png_image png{};
  png.version = PNG_IMAGE_VERSION;
  const std::unique_ptr<png_image, void (*)(png_imagep)> free_it(&png, png_image_free);
  if (!png_image_begin_read_from_memory(&png, bytes.data(), bytes.size())) {
    throw Problem("image_broken", std::string("the PNG header: ") + png.message);
  }
  check_size(png.width, png.height, max_pixels);
  png.format = PNG_FORMAT_RGBA;
  std::vector<std::uint8_t> rgba(PNG_IMAGE_SIZE(png));
  if (!png_image_finish_read(&png, nullptr, rgba.data(), 0, nullptr)) {
    throw Problem("image_broken", std::string("the PNG data: ") + png.message);
  }
  Picture picture{static_cast<int>(png.width), static_cast<int>(png.height), {}, double(png.width), double(png.height)};
  picture.rgb.reserve(rgba.size() / 4 * 3);
  for (std::size_t i = 0; i < rgba.size(); i += 4) {
    for (int c = 0; c < 3; ++c) picture.rgb.push_back(over_white(rgba[i + c], rgba[i + 3]));
  }
  return picture;
}

// EXIF orientation, 1 (as it is) to 8; 1 where there is none.
int orientation_of(const std::vector<std::uint8_t>& bytes) {
  const std::unique_ptr<ExifData, void (*)(ExifData*)> exif(
      exif_data_new_from_data(bytes.data(), static_cast<unsigned>(bytes.size())), exif_data_unref);
  if (!exif) return 1;
  const ExifEntry* entry = exif_content_get_entry(exif->ifd[EXIF_IFD_0], EXIF_TAG_ORIENTATION);
  if (!entry || entry->format != EXIF_FORMAT_SHORT || entry->size < 2) return 1;
  const int orientation = exif_get_short(entry->data, exif_data_get_byte_order(exif.get()));
  return orientation >= 1 && orientation <= 8 ? orientation : 1;
}

Picture upright(Picture from, int orientation) {
  if (orientation == 1) return from;
  const bool lying = orientation >= 5;
  Picture to = from;
  if (lying) {
    std::swap(to.width, to.height);
    std::swap(to.extent_width, to.extent_height);
  }
  for (int y = 0; y < to.height; ++y) {
    for (int x = 0; x < to.width; ++x) {
      int column = lying ? y : x, row = lying ? x : y;
      if (orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8) column = from.width - 1 - column;
      if (orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7) row = from.height - 1 - row;
      std::memcpy(&to.rgb[3 * (std::size_t(y) * to.width + x)], &from.rgb[3 * (std::size_t(row) * from.width + column)], 3);
    }
  }
  return to;
}

}  // namespace

Picture decode(const std::vector<std::uint8_t>& bytes, std::int64_t max_pixels, int short_side) {
  if (bytes.empty()) throw Problem("empty_body", "the file is empty");
  if (bytes.size() > 3 && bytes[0] == 0xFF && bytes[1] == 0xD8 && bytes[2] == 0xFF) {
    return upright(decode_jpeg(bytes, max_pixels, short_side), orientation_of(bytes));
  }
  if (bytes.size() > 8 && png_sig_cmp(bytes.data(), 0, 8) == 0) return decode_png(bytes, max_pixels);
  throw Problem("not_an_image", "neither JPEG nor PNG begins with these bytes");
}
