// CUDA's resources, each owned by one object, and every status checked.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>
#include <string>
#include <type_traits>

namespace infer {

/// Throws DeviceError, naming the call and what CUDA says, where a status is an error.
void check(cudaError_t status, const char* call);

/// Calls a function of CUDA's runtime, checked: ``INFER_CUDA(cudaStreamSynchronize(stream));``.
#define INFER_CUDA(call) ::infer::check((call), #call)

/// Gives the name of device 0. Throws DeviceError where there is none or no driver for it.
std::string device_name();

struct StreamDestroy {
  void operator()(cudaStream_t stream) const noexcept;
};
using Stream = std::unique_ptr<std::remove_pointer_t<cudaStream_t>, StreamDestroy>;

struct GraphDestroy {
  void operator()(cudaGraph_t graph) const noexcept;
};
using Graph = std::unique_ptr<std::remove_pointer_t<cudaGraph_t>, GraphDestroy>;

struct GraphExecDestroy {
  void operator()(cudaGraphExec_t graph) const noexcept;
};
using GraphExec = std::unique_ptr<std::remove_pointer_t<cudaGraphExec_t>, GraphExecDestroy>;

struct DeviceFree {
  void operator()(float* memory) const noexcept;
};
using DeviceArray = std::unique_ptr<float, DeviceFree>;

struct PinnedFree {
  void operator()(float* memory) const noexcept;
};
using PinnedArray = std::unique_ptr<float, PinnedFree>;

Stream make_stream();
/// Device memory for ``count`` values.
DeviceArray device_array(std::size_t count);
/// Page-locked host memory for ``count`` values, filled with NaN, so that what nobody wrote shows.
PinnedArray pinned_array(std::size_t count);

}  // namespace infer
