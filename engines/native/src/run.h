// A run: the samples of a file in, their predictions in another. Knows neither CUDA nor TensorRT.
#pragma once

#include <optional>

#include "files.h"
#include "loaded_plan.h"
#include "memory.h"
#include "options.h"
#include "report.h"
#include "samples.h"

namespace infer {

/// One run over the samples of a file. Its files are opened at once: better refused now than after a long run.
class Run {
 public:
  /// Throws InputError where a file that is to be written cannot be, or is one that is read.
  explicit Run(const Options& options);

  /// Reads the samples, before a plan is needed: their mistakes can be told without a GPU. Throws InputError.
  void read_samples();
  /// Runs them and writes what was asked for; ``report`` tells of the program. Throws InputError and DeviceError.
  void execute(LoadedPlan& plan, Report report);

 private:
  Options options_;
  AtomicFile output_;
  std::optional<AtomicFile> json_;
  Samples samples_;
  RawFile raw_;
  double read_seconds_ = 0;
};

}  // namespace infer
