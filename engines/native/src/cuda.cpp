#include "cuda.h"

#include <algorithm>
#include <limits>

#include "error.h"

namespace infer {

void check(cudaError_t status, const char* call) {
  if (status != cudaSuccess) {
    throw DeviceError(std::string("CUDA: ") + call + " failed: " + cudaGetErrorName(status) + " (" +
                      std::to_string(static_cast<int>(status)) + "): " + cudaGetErrorString(status));
  }
}

std::string device_name() {
  int driver = 0;
  if (cudaDriverGetVersion(&driver) == cudaSuccess && driver == 0) {
    throw DeviceError("CUDA: no CUDA driver is installed here; install NVIDIA's driver for CUDA " +
                      std::to_string(CUDART_VERSION / 1000) + " or newer");
  }
  int count = 0;
  INFER_CUDA(cudaGetDeviceCount(&count));
  if (count == 0) {
    throw DeviceError("CUDA: found no device; allowed: one or more (is CUDA_VISIBLE_DEVICES empty?)");
  }
  cudaDeviceProp properties{};
  INFER_CUDA(cudaGetDeviceProperties(&properties, 0));
  INFER_CUDA(cudaSetDevice(0));
  return properties.name;
}

// Destructors cannot report, and what fails here has failed before: an error of CUDA's is given by every later call.
void StreamDestroy::operator()(cudaStream_t stream) const noexcept { static_cast<void>(cudaStreamDestroy(stream)); }
void GraphDestroy::operator()(cudaGraph_t graph) const noexcept { static_cast<void>(cudaGraphDestroy(graph)); }
void GraphExecDestroy::operator()(cudaGraphExec_t graph) const noexcept {
  static_cast<void>(cudaGraphExecDestroy(graph));
}
void DeviceFree::operator()(float* memory) const noexcept { static_cast<void>(cudaFree(memory)); }
void PinnedFree::operator()(float* memory) const noexcept { static_cast<void>(cudaFreeHost(memory)); }

Stream make_stream() {
  cudaStream_t stream = nullptr;
  INFER_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  return Stream(stream);
}

DeviceArray device_array(std::size_t count) {
  void* memory = nullptr;
  const std::string call = "cudaMalloc of " + std::to_string(count * sizeof(float)) + " bytes";
  check(cudaMalloc(&memory, count * sizeof(float)), call.c_str());
  return DeviceArray(static_cast<float*>(memory));
}

PinnedArray pinned_array(std::size_t count) {
  void* memory = nullptr;
  const std::string call = "cudaHostAlloc of " + std::to_string(count * sizeof(float)) + " bytes";
  check(cudaHostAlloc(&memory, count * sizeof(float), cudaHostAllocDefault), call.c_str());
  PinnedArray result(static_cast<float*>(memory));
  std::fill_n(result.get(), count, std::numeric_limits<float>::quiet_NaN());
  return result;
}

}  // namespace infer
