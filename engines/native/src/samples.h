// Samples, read from CSV or raw float32 files. Strict: a sample is read as it stands or the file is refused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "memory.h"

namespace infer {

/// ``ids.size()`` samples of ``width`` float32 values each, in the order of the file.
struct Samples {
  std::vector<std::int64_t> ids;
  std::size_t width = 0;
  Array<float> values;

  std::size_t count() const noexcept { return ids.size(); }
};

/// Reads ``sample_id,pixel_0,...,pixel_{n-1}`` and one row a sample; n is the header's.
///
/// Lines end with LF or CRLF, the last one may lack it; a UTF-8 byte order mark is skipped. Values are decimal and
/// finite, rounded to the nearest float32; ids are whole numbers from 0 on, each once. Throws InputError with
/// ``FILE:LINE: column C`` (both from 1 on), what was found there and what is allowed.
Samples read_csv(const std::string& path);

/// The same, of text at hand; ``name`` stands for the file in messages.
Samples parse_csv(const std::string& name, std::string_view text);

/// A raw file whose samples are not counted yet: that takes the engine's input.
struct RawFile {
  Array<char> content;
};

/// Reads a raw file. Throws InputError where it is empty, or a NumPy file, which has a header.
RawFile read_raw(const std::string& path);

/// Counts ``width`` little-endian float32 values a sample; ids are the row numbers. Throws InputError where the size
/// is no whole number of samples, or where a value is not finite.
Samples raw_samples(const std::string& path, const RawFile& raw, std::size_t width);

}  // namespace infer
