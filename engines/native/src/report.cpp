#include "report.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>

namespace infer {

namespace {

/// The length of the UTF-8 sequence at ``at`` (RFC 3629), or 0 where there is none.
std::size_t sequence(const std::string& text, std::size_t at) {
  const auto byte = [&text](std::size_t i) {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : static_cast<unsigned char>(0);
  };
  const unsigned first = byte(at);
  const std::size_t length = first < 0x80                    ? 1
                             : first >= 0xc2 && first < 0xe0 ? 2
                             : first >= 0xe0 && first < 0xf0 ? 3
                             : first >= 0xf0 && first < 0xf5 ? 4
                                                             : 0;
  std::uint32_t code = length < 2 ? first : first & (0x7fU >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(at + i) & 0xc0U) != 0x80U) {
      return 0;
    }
    code = (code << 6U) | (byte(at + i) & 0x3fU);
  }
  const bool overlong = (length == 3 && code < 0x800) || (length == 4 && code < 0x10000);
  const bool surrogate = code >= 0xd800 && code < 0xe000;
  return overlong || surrogate || code > 0x10ffff ? 0 : length;
}

std::string number(double value) {
  char text[32];
  return {text, std::to_chars(text, text + sizeof(text), value).ptr};
}

template <typename Values, typename Give>
std::string list(const Values& values, Give give) {
  std::string result = "[";
  for (const auto& value : values) {
    result += (result.size() > 1 ? ", " : "") + give(value);
  }
  return result + "]";
}

std::string tensor_json(const Tensor& tensor) {
  return "{\"name\": " + json_string(tensor.name) +
         ", \"shape\": " + list(tensor.shape, [](std::int64_t size) { return std::to_string(size); }) +
         ", \"dtype\": " + json_string(tensor.dtype) + "}";
}

}  // namespace

float percentile(std::vector<float> values, double share) {
  if (values.empty()) {
    return 0;
  }
  const double rank = std::ceil(share * static_cast<double>(values.size()));
  const auto index = static_cast<std::size_t>(std::max(rank, 1.0)) - 1;
  const auto chosen = values.begin() + static_cast<std::ptrdiff_t>(std::min(index, values.size() - 1));
  std::nth_element(values.begin(), chosen, values.end());
  return *chosen;
}

std::string json_string(const std::string& text) {
  constexpr char digits[] = "0123456789abcdef";
  std::string result = "\"";
  for (std::size_t i = 0; i < text.size();) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const std::size_t length = sequence(text, i);
    if (length == 0) {
      result += "\\ufffd";
    } else if (byte < 0x20 || byte == 0x7f) {
      result += std::string("\\u00") + digits[byte >> 4U] + digits[byte & 15U];
    } else {
      result += (byte == '"' || byte == '\\' ? "\\" : "") + text.substr(i, length);
    }
    i += std::max<std::size_t>(length, 1);
  }
  return result + '"';
}

std::string report_json(const Report& report) {
  std::string text = "{\n";
  const auto add = [&text](const char* name, const std::string& value) {
    text += (text.size() > 2 ? ",\n  \"" : "  \"") + std::string(name) + "\": " + value;
  };
  const auto truth = [](bool value) { return std::string(value ? "true" : "false"); };
  add("program", json_string(report.program));
  add("tensorrt", json_string(report.tensorrt));
  add("library", json_string(report.library));
  add("device", json_string(report.device));
  add("plan", json_string(report.plan));
  add("samples", std::to_string(report.samples));
  add("batch", std::to_string(report.batch));
  add("streams", std::to_string(report.streams));
  add("graphs", truth(report.graphs));
  add("copiers", std::to_string(report.copiers));
  add("repeat", std::to_string(report.repeat));
  add("copies", "{\"host_to_device\": " + std::to_string(report.copies.host_to_device) +
                    ", \"device_to_host\": " + std::to_string(report.copies.device_to_host) + "}");
  const auto best = std::max_element(report.passes.begin(), report.passes.end());
  add("samples_per_second", number(best == report.passes.end() ? 0 : *best));
  add("passes", list(report.passes, number));
  add("latency_ms", "{\"p50\": " + number(percentile(report.latencies, 0.5)) +
                        ", \"p90\": " + number(percentile(report.latencies, 0.9)) +
                        ", \"p99\": " + number(percentile(report.latencies, 0.99)) + "}");
  add("load_seconds", number(report.load_seconds));
  add("read_seconds", number(report.read_seconds));
  add("write_seconds", number(report.write_seconds));
  add("fed_sha256", json_string(report.fed_sha256));
  add("input", tensor_json(report.input));
  add("output", tensor_json(report.output));
  return text + "\n}\n";
}

}  // namespace infer
