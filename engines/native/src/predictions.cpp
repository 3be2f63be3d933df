#include "predictions.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string_view>

#include "error.h"

namespace infer {

void write_predictions(AtomicFile& file, const std::vector<std::int64_t>& ids, const float* probabilities,
                       std::size_t width) {
  constexpr std::size_t chunk = std::size_t{1} << 20U;
  std::string text = "sample_id,class,confidence";
  for (std::size_t i = 0; i < width; ++i) {
    text += ",p_" + std::to_string(i);
  }
  text += '\n';
  char number[32];
  const auto append = [&text, &number](auto value, auto... format) {
    const auto result = std::to_chars(number, number + sizeof(number), value, format...);
    text.append(number, result.ptr);
  };
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const float* row = probabilities + i * width;
    const float* best = std::max_element(row, row + width);
    append(ids[i]);
    text += ',';
    append(best - row);
    text += ',';
    append(*best, std::chars_format::general, 9);
    for (std::size_t j = 0; j < width; ++j) {
      text += ',';
      append(row[j], std::chars_format::general, 9);
    }
    text += '\n';
    if (text.size() >= chunk) {
      file.write(text);
      text.clear();
    }
  }
  file.write(text);
}

void check_finite(const std::string& plan, const std::vector<std::int64_t>& ids, const float* probabilities,
                  std::size_t width) {
  const std::size_t size = ids.size() * width;
  std::size_t wrong = 0;
  std::size_t first = size;
  for (std::size_t i = 0; i < size; ++i) {
    if (!std::isfinite(probabilities[i])) {
      first = wrong++ == 0 ? i : first;
    }
  }
  if (wrong > 0) {
    throw DeviceError(plan + ": the engine put out " + std::to_string(wrong) + " of " + std::to_string(size) +
                      " values that are not finite, the first " + std::to_string(probabilities[first]) + " as p_" +
                      std::to_string(first % width) + " of sample_id " + std::to_string(ids[first / width]) +
                      "; nothing was written");
  }
}

}  // namespace infer
