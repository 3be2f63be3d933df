// A plan that is loaded onto a device. Knows neither CUDA nor TensorRT.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "pipeline.h"
#include "signature.h"

namespace infer {

/// How an execution runs.
enum class Mode {
  enqueue,  ///< put onto the slot's stream
  wait,     ///< on the calling thread, done on return: nothing may be pending on the slot's stream
};

/// A plan, checked to be one that these programs run, and the device that it is loaded onto.
class LoadedPlan {
 public:
  LoadedPlan() = default;
  virtual ~LoadedPlan() = default;
  LoadedPlan(const LoadedPlan&) = delete;
  LoadedPlan& operator=(const LoadedPlan&) = delete;
  LoadedPlan(LoadedPlan&&) = delete;
  LoadedPlan& operator=(LoadedPlan&&) = delete;

  virtual const Signature& signature() const noexcept = 0;
  /// How a single stream runs.
  virtual Mode single_stream_mode() const noexcept = 0;
  /// Makes a slot for batches of up to ``rows`` samples. With ``graph``, it takes batches of just ``rows`` samples.
  /// Throws DeviceError.
  virtual std::unique_ptr<Slot> slot(std::size_t rows, Mode mode, bool graph) = 0;
  /// The device's name.
  virtual const std::string& device() const noexcept = 0;
  /// How long loading took.
  virtual double load_seconds() const noexcept = 0;
};

}  // namespace infer
