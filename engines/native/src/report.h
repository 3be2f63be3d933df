// The report of a run, as JSON.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "pipeline.h"
#include "signature.h"

namespace infer {

/// What --json tells.
struct Report {
  std::string program;
  std::string tensorrt;
  std::string library;  ///< the TensorRT library that the program is linked with
  std::string device;
  std::string plan;
  std::size_t samples = 0;
  std::size_t batch = 0;
  std::size_t streams = 0;
  bool graphs = false;
  std::size_t copiers = 0;
  std::size_t repeat = 0;
  Copies copies;                 ///< of one pass
  std::vector<double> passes;    ///< samples per second of each
  std::vector<float> latencies;  ///< milliseconds of each batch of every pass
  double load_seconds = 0;
  double read_seconds = 0;
  double write_seconds = 0;
  std::string fed_sha256;
  Tensor input;
  Tensor output;
};

/// Gives the value that ``share`` (0 to 1) of the values do not exceed, by nearest rank; 0 where there are none.
float percentile(std::vector<float> values, double share);

/// Quotes text as JSON does; bytes that are no UTF-8 become U+FFFD.
std::string json_string(const std::string& text);

/// Gives the report as JSON text.
std::string report_json(const Report& report);

}  // namespace infer
