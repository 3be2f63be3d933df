#include "samples.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <system_error>
#include <utility>

#include "error.h"
#include "files.h"

namespace infer {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "raw files are little-endian and read as they are");
static_assert(sizeof(float) == 4);

namespace {

constexpr std::string_view id_name = "sample_id";
constexpr std::string_view pixel_name = "pixel_";
constexpr const char* cell_rule =
    "allowed: a finite decimal number such as 0.25, -3 or 1.5e-3, without spaces or quotes";
constexpr const char* id_rule = "allowed: a whole number from 0 to 9223372036854775807";

[[noreturn]] void refuse(const std::string& name, std::size_t line, std::size_t column, const std::string& what) {
  throw InputError(name + ":" + std::to_string(line) + ": column " + std::to_string(column) + ": " + what);
}

/// Parses a value at ``from``; gives its end, or null where there is no finite float32.
const char* parse_value(const char* from, const char* to, float& value) {
  // Whole numbers of up to seven digits, such as bytes, are float32 as they are and need no general parser.
  std::uint32_t whole = 0;
  const char* at = from;
  for (; at != to && at - from < 7 && *at >= '0' && *at <= '9'; ++at) {
    whole = whole * 10 + static_cast<std::uint32_t>(*at - '0');
  }
  if (at != from && (at == to || *at == ',')) {
    value = static_cast<float>(whole);
    return at;
  }
  const auto [end, error] = std::from_chars(from, to, value);
  if (error == std::errc()) {
    return std::isfinite(value) ? end : nullptr;
  }
  if (error == std::errc::result_out_of_range) {
    // Too large, or so small that the nearest float32 is 0: only strtof tells the two apart.
    value = std::strtof(std::string(from, end).c_str(), nullptr);
    return std::isfinite(value) ? end : nullptr;
  }
  return nullptr;
}

const char* parse_id(const char* from, const char* to, std::int64_t& id) {
  const auto [end, error] = std::from_chars(from, to, id);
  return error == std::errc() && id >= 0 && *from != '-' ? end : nullptr;
}

/// Parses a row, which must end just at ``to``; false where anything is wrong with it.
bool parse_row(const char* from, const char* to, std::int64_t& id, float* values, std::size_t width) {
  const char* at = parse_id(from, to, id);
  for (std::size_t i = 0; i < width; ++i) {
    if (at == nullptr || at == to || *at != ',') {
      return false;
    }
    at = parse_value(at + 1, to, values[i]);
  }
  return at == to;
}

std::vector<std::string_view> split(std::string_view line) {
  std::vector<std::string_view> cells;
  for (;;) {
    const std::size_t comma = line.find(',');
    cells.push_back(line.substr(0, comma));
    if (comma == std::string_view::npos) {
      return cells;
    }
    line.remove_prefix(comma + 1);
  }
}

std::string columns(std::size_t width) {
  return std::to_string(width + 1) + " columns (sample_id and " + std::to_string(width) + " pixels)";
}

/// Says what is wrong with a cell that is no finite float32.
std::string cell_trouble(std::string_view cell) {
  if (cell.empty()) {
    return std::string("is empty; ") + cell_rule;
  }
  float value = 0;
  const auto [end, error] = std::from_chars(cell.data(), cell.data() + cell.size(), value);
  if (error == std::errc::result_out_of_range && end == cell.data() + cell.size()) {
    return "found " + quoted(cell) + ", which is too large for float32; allowed: magnitudes up to 3.40282347e+38";
  }
  return "found " + quoted(cell) + "; " + cell_rule;
}

/// Says what is wrong with a row that parse_row refused.
[[noreturn]] void refuse_row(const std::string& name, std::size_t line, std::string_view row, std::size_t width) {
  if (row.empty()) {
    refuse(name, line, 1, "the line is empty; allowed: " + columns(width) + " in every line");
  }
  const std::vector<std::string_view> cells = split(row);
  if (cells.size() != width + 1) {
    refuse(name, line, std::min(cells.size(), width + 1) + 1,
           "found " + std::to_string(cells.size()) + " columns; allowed: " + columns(width) + " as in the header");
  }
  std::int64_t id = 0;
  const char* end = cells[0].data() + cells[0].size();
  if (parse_id(cells[0].data(), end, id) != end) {
    refuse(name, line, 1,
           "(sample_id) " + (cells[0].empty() ? "is empty; " : "found " + quoted(cells[0]) + "; ") + id_rule);
  }
  for (std::size_t i = 0; i < width; ++i) {
    float value = 0;
    end = cells[i + 1].data() + cells[i + 1].size();
    if (parse_value(cells[i + 1].data(), end, value) != end) {
      refuse(name, line, i + 2, "(pixel_" + std::to_string(i) + ") " + cell_trouble(cells[i + 1]));
    }
  }
  throw std::logic_error(name + ":" + std::to_string(line) + ": refused without a reason; please report this");
}

std::size_t parse_header(const std::string& name, std::string_view header) {
  const std::string rule = "; allowed: sample_id,pixel_0,pixel_1,... as the first line";
  const std::vector<std::string_view> cells = split(header);
  for (std::size_t i = 0; i < cells.size(); ++i) {
    const std::string expected = i == 0 ? std::string(id_name) : std::string(pixel_name) + std::to_string(i - 1);
    if (cells[i] != expected) {
      refuse(name, 1, i + 1, "found " + quoted(cells[i]) + " where " + expected + " belongs" + rule);
    }
  }
  if (cells.size() < 2) {
    refuse(name, 1, 2, "found no pixel column" + rule);
  }
  return cells.size() - 1;
}

/// Refuses an id that comes twice, naming the first line that repeats one.
void check_unique(const std::string& name, const std::vector<std::int64_t>& ids) {
  if (std::adjacent_find(ids.begin(), ids.end(), std::greater_equal<>()) == ids.end()) {
    return;  // ascending, as most files are
  }
  std::vector<std::pair<std::int64_t, std::size_t>> sorted(ids.size());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    sorted[i] = {ids[i], i};
  }
  std::sort(sorted.begin(), sorted.end());
  std::optional<std::pair<std::size_t, std::size_t>> repeated;  // row, and the row before with its id
  for (std::size_t i = 1; i < sorted.size(); ++i) {
    if (sorted[i].first == sorted[i - 1].first && (!repeated || sorted[i].second < repeated->first)) {
      repeated = {sorted[i].second, sorted[i - 1].second};
    }
  }
  if (repeated) {
    refuse(name, repeated->first + 2, 1,
           "(sample_id) found " + std::to_string(ids[repeated->first]) + ", which line " +
               std::to_string(repeated->second + 2) + " has already; allowed: each sample_id once");
  }
}

/// Takes the next line off the text, without its end.
std::string_view next_line(std::string_view& text) {
  const auto* found = static_cast<const char*>(std::memchr(text.data(), '\n', text.size()));
  const std::size_t length = found == nullptr ? text.size() : static_cast<std::size_t>(found - text.data());
  std::string_view line = text.substr(0, length);
  text.remove_prefix(std::min(text.size(), length + 1));
  if (!line.empty() && line.back() == '\r') {
    line.remove_suffix(1);
  }
  return line;
}

}  // namespace

Samples parse_csv(const std::string& name, std::string_view text) {
  constexpr std::string_view byte_order_mark = "\xef\xbb\xbf";
  if (text.substr(0, byte_order_mark.size()) == byte_order_mark) {
    text.remove_prefix(byte_order_mark.size());
  }
  if (text.empty()) {
    throw InputError(name +
                     ":1: column 1: the file is empty; allowed: sample_id,pixel_0,pixel_1,... and one row a sample");
  }
  Samples samples;
  samples.width = parse_header(name, next_line(text));
  if (text.empty()) {
    refuse(name, 2, 1, "found no samples after the header; allowed: one or more");
  }
  // A row has at least two characters a column, counting what separates it, so this is as many as there can be; one
  // more for a last row that turns out to be none.
  const auto lines = static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n')) + 1;
  const std::size_t most = std::min(lines, (text.size() + 1) / (2 * (samples.width + 1))) + 1;
  samples.values = Array<float>(most * samples.width);
  samples.ids.reserve(most);
  while (!text.empty()) {
    const std::string_view row = next_line(text);
    std::int64_t id = 0;
    float* values = samples.values.data() + samples.count() * samples.width;
    if (row.empty() || !parse_row(row.data(), row.data() + row.size(), id, values, samples.width)) {
      refuse_row(name, samples.count() + 2, row, samples.width);
    }
    samples.ids.push_back(id);
  }
  check_unique(name, samples.ids);
  samples.values.shrink(samples.count() * samples.width);
  return samples;
}

Samples read_csv(const std::string& path) {
  const MappedFile file(path);
  Samples samples = parse_csv(path, file.text());
  file.check_unchanged();
  return samples;
}

RawFile read_raw(const std::string& path) {
  RawFile raw{read_file(path)};
  const std::string_view start(raw.content.data(), std::min<std::size_t>(raw.content.size(), 6));
  const std::string rule =
      "; allowed: float32 values alone, without a header (in NumPy: array.astype('<f4').tofile(FILE))";
  if (start.empty()) {
    throw InputError(path + ": the file is empty" + rule);
  }
  if (start == "\x93NUMPY") {
    throw InputError(path + ": this is a NumPy file (.npy), which has a header" + rule);
  }
  if (start.substr(0, 4) == "PK\x03\x04") {
    throw InputError(path + ": this is a NumPy file (.npz) or another zip archive" + rule);
  }
  return raw;
}

Samples raw_samples(const std::string& path, const RawFile& raw, std::size_t width) {
  const std::size_t size = raw.content.size();
  const std::size_t bytes = width * sizeof(float);
  if (bytes == 0 || size == 0 || size % bytes != 0) {
    throw InputError(path + ": found " + std::to_string(size) + " bytes; allowed: a multiple of " +
                     std::to_string(bytes) + ", the bytes of a sample of " + std::to_string(width) + " float32 values");
  }
  Samples samples;
  samples.width = width;
  samples.values = Array<float>(size / sizeof(float));
  std::memcpy(samples.values.data(), raw.content.data(), size);
  const float* end = samples.values.data() + samples.values.size();
  const float* found = std::find_if_not(static_cast<const float*>(samples.values.data()), end,
                                        [](float value) { return std::isfinite(value); });
  if (found != end) {
    const auto index = static_cast<std::size_t>(found - samples.values.data());
    throw InputError(path + ": value " + std::to_string(index % width) + " of sample " + std::to_string(index / width) +
                     " is " + std::to_string(*found) + "; allowed: finite little-endian float32 values");
  }
  samples.ids.resize(size / bytes);
  for (std::size_t i = 0; i < samples.ids.size(); ++i) {
    samples.ids[i] = static_cast<std::int64_t>(i);
  }
  return samples;
}

}  // namespace infer
