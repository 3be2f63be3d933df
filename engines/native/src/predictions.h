// Predictions, written as CSV.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "files.h"

namespace infer {

/// Writes ``sample_id,class,confidence,p_0,...,p_{k-1}`` and one row a sample, each value with 9 significant digits,
/// from which the float32 can be read back exactly. The class is the first of the largest values. ``probabilities``
/// are ``ids.size()`` rows of ``width``. Throws InputError where the disk does not take it.
void write_predictions(AtomicFile& file, const std::vector<std::int64_t>& ids, const float* probabilities,
                       std::size_t width);

/// Throws DeviceError, naming the first sample, where an engine put out a value that is not finite.
void check_finite(const std::string& plan, const std::vector<std::int64_t>& ids, const float* probabilities,
                  std::size_t width);

}  // namespace infer
