// What TensorRT 8 and 10 have in common. Include it in one file a program: it needs one version's headers.
#pragma once

#include <NvInferRuntime.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "engine.h"
#include "error.h"
#include "signature.h"

namespace infer {

/// Keeps what TensorRT says; TensorRT may call it from threads of its own.
class Logger final : public nvinfer1::ILogger {
 public:
  void log(Severity severity, const char* message) noexcept override {
    if (severity > Severity::kWARNING) {
      return;
    }
    try {
      const std::lock_guard<std::mutex> lock(mutex_);
      std::vector<std::string>& kept = severity == Severity::kWARNING ? warnings_ : errors_;
      if (kept.size() < most) {
        kept.emplace_back(message);
        silent_.store(false, std::memory_order_relaxed);
      }
    } catch (...) {
      // Out of memory, in a callback that may not throw: the message is lost, the failure it tells of is not.
    }
  }

  /// Forgets what was said so far: what comes next belongs to what is done next. Called before each batch, it locks
  /// nothing as long as nothing was said.
  void forget() {
    if (silent_.load(std::memory_order_relaxed)) {
      return;
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    errors_.clear();
    warnings_.clear();
    silent_.store(true, std::memory_order_relaxed);
  }

  /// Gives the errors said since, or the warnings where there are none, as the end of a message.
  std::string said() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::string text;
    for (const std::string& message : errors_.empty() ? warnings_ : errors_) {
      text += (text.empty() ? "TensorRT says: " : " | ") + message;
    }
    return text.empty() ? "TensorRT gives no message" : text;
  }

 private:
  static constexpr std::size_t most = 16;  // of each: warnings never crowd out an error
  mutable std::mutex mutex_;
  std::atomic<bool> silent_{true};  // whether nothing is kept; changed by who holds the mutex alone
  std::vector<std::string> errors_;
  std::vector<std::string> warnings_;
};

/// TensorRT wants one logger a process, which outlives all else of it.
inline Logger& logger() {
  static Logger instance;
  return instance;
}

[[noreturn]] inline void fail(const std::string& what) { throw DeviceError(what + "; " + logger().said()); }

/// Throws DeviceError with what TensorRT said where a call gave false.
inline void require(bool good, const std::string& what) {
  if (!good) {
    fail(what);
  }
}

/// Throws DeviceError because a plan cannot be loaded; tells of the option where that is what is missing.
[[noreturn]] inline void fail_to_load(const std::string& plan, const std::string& version, bool allow_host_code) {
  const std::string said = logger().said();
  const bool host_code = !allow_host_code && said.find("EngineHostCodeAllowed") != std::string::npos;
  throw DeviceError(plan + ": TensorRT " + version + " cannot load it as a plan" +
                    (host_code
                         ? " because it carries code to run on this machine; give --allow-host-code if you trust it"
                         : "; allowed: plans built with this version (or version-compatible ones) for this GPU") +
                    "; " + said);
}

/// A deserialized plan with the runtime that it needs, which is destroyed after it.
struct Loaded {
  std::unique_ptr<nvinfer1::IRuntime> runtime;
  std::unique_ptr<nvinfer1::ICudaEngine> engine;
};

/// Deserializes a plan. Throws DeviceError with what TensorRT says.
inline Loaded deserialize(const std::string& plan, std::string_view content, bool allow_host_code) {
  logger().forget();
  Loaded loaded;
  loaded.runtime.reset(nvinfer1::createInferRuntime(logger()));
  require(loaded.runtime != nullptr, "TensorRT " + library_version() + " gives no runtime");
#if NV_TENSORRT_MAJOR > 8 || NV_TENSORRT_MINOR >= 6
  loaded.runtime->setEngineHostCodeAllowed(allow_host_code);
#else
  if (allow_host_code) {
    throw InputError("--allow-host-code: TensorRT " + library_version() +
                     " has no plans that carry code; 8.6 and newer do");
  }
#endif
  loaded.engine.reset(loaded.runtime->deserializeCudaEngine(content.data(), content.size()));
  if (loaded.engine == nullptr) {
    fail_to_load(plan, library_version(), allow_host_code);
  }
  return loaded;
}

inline std::vector<std::int64_t> shape_of(const nvinfer1::Dims& dims) {
  std::vector<std::int64_t> shape;
  for (std::int32_t i = 0; i < dims.nbDims; ++i) {
    shape.push_back(dims.d[i]);
  }
  return shape;
}

/// Gives NumPy's name of a dtype.
inline std::string dtype_name(nvinfer1::DataType dtype) {
  switch (dtype) {
    case nvinfer1::DataType::kFLOAT:
      return "float32";
    case nvinfer1::DataType::kHALF:
      return "float16";
    case nvinfer1::DataType::kINT8:
      return "int8";
    case nvinfer1::DataType::kINT32:
      return "int32";
    case nvinfer1::DataType::kBOOL:
      return "bool";
    case nvinfer1::DataType::kUINT8:
      return "uint8";
    default:
      return "TensorRT's data type " + std::to_string(static_cast<int>(dtype));
  }
}

/// Gives "linear", or TensorRT's description of another format.
inline std::string layout_name(nvinfer1::TensorFormat format, const char* description) {
  if (format == nvinfer1::TensorFormat::kLINEAR) {
    return "linear";
  }
  return description == nullptr ? "format " + std::to_string(static_cast<int>(format)) : description;
}

}  // namespace infer
