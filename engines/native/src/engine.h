// What these programs need of TensorRT. trt8.cpp and trt10.cpp each implement all of it, for their version.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "loaded_plan.h"
#include "signature.h"

namespace infer {

/// An execution context bound to the memory and the stream of a slot.
class Execution {
 public:
  Execution() = default;
  virtual ~Execution() = default;
  Execution(const Execution&) = delete;
  Execution& operator=(const Execution&) = delete;
  Execution(Execution&&) = delete;
  Execution& operator=(Execution&&) = delete;

  /// Sets the number of samples. Throws DeviceError where TensorRT refuses the shape.
  virtual void set_rows(std::size_t rows) = 0;
  /// Runs the engine: put onto the stream, or, for a waiting execution, done when this returns.
  virtual void run() = 0;
};

/// A deserialized plan, checked to be one that these programs run.
class Engine {
 public:
  Engine() = default;
  virtual ~Engine() = default;
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;
  Engine(Engine&&) = delete;
  Engine& operator=(Engine&&) = delete;

  virtual const Signature& signature() const noexcept = 0;
  /// How a single stream runs.
  virtual Mode single_stream_mode() const noexcept = 0;
  /// Makes an execution context. Throws DeviceError.
  virtual std::unique_ptr<Execution> execution(float* input, float* output, cudaStream_t stream, Mode mode) = 0;
};

/// Deserializes a plan. Throws DeviceError with what TensorRT says.
std::unique_ptr<Engine> load_engine(const std::string& plan, std::string_view content, bool allow_host_code);

/// The program's name.
const char* program_name() noexcept;
/// The TensorRT library that it is linked with: nvinfer, nvinfer_lean or nvinfer_dispatch.
const char* library_name() noexcept;
/// The version of the TensorRT library that runs.
std::string library_version();
/// The version of the TensorRT headers that this was built with.
std::string headers_version();

}  // namespace infer
