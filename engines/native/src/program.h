// A program: its command line, its exit codes, and what it prints. Knows neither CUDA nor TensorRT.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "loaded_plan.h"

namespace infer {

/// What sets a program apart from others.
struct Program {
  std::string name;
  std::string library;   ///< the TensorRT library that it is linked with: nvinfer, nvinfer_lean or nvinfer_dispatch
  std::string tensorrt;  ///< the version of that library
  std::string headers;   ///< the version of the headers that it was built with
  std::string cuda;      ///< the version of its CUDA runtime
  /// Loads the plan of that name and content. Throws DeviceError.
  std::function<std::unique_ptr<LoadedPlan>(const std::string& plan, std::string_view content, bool allow_host_code)>
      load;
};

/// Does what the arguments ask for, and tells of an error in a line on standard error. Gives the exit code.
int run_program(const Program& program, const std::vector<std::string>& arguments);

}  // namespace infer
