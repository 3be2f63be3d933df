// A slot on a CUDA device.
#pragma once

#include <cstddef>
#include <memory>

#include "cuda.h"
#include "engine.h"
#include "pipeline.h"

namespace infer {

/// Page-locked and device memory for a batch of up to ``rows`` samples, a stream, and an execution context.
class CudaSlot final : public Slot {
 public:
  /// With ``graph``, transfers and engine of a batch of just ``rows`` samples are captured as a CUDA graph; the slot
  /// must then not be given other batches, for that would change the shape under the graph. Throws DeviceError.
  CudaSlot(Engine& engine, std::size_t rows, Mode mode, bool graph);
  ~CudaSlot() override;
  CudaSlot(const CudaSlot&) = delete;
  CudaSlot& operator=(const CudaSlot&) = delete;
  CudaSlot(CudaSlot&&) = delete;
  CudaSlot& operator=(CudaSlot&&) = delete;

  float* input() noexcept override { return host_input_.get(); }
  const float* output() const noexcept override { return host_output_.get(); }
  Copies start(std::size_t rows) override;
  bool done() override;
  void wait() override;

 private:
  Copies enqueue(std::size_t rows);
  void capture();

  std::size_t rows_;
  std::size_t input_width_;
  std::size_t output_width_;
  Mode mode_;
  PinnedArray host_input_;
  PinnedArray host_output_;
  DeviceArray device_input_;
  DeviceArray device_output_;
  Stream stream_;
  std::unique_ptr<Execution> execution_;
  GraphExec graph_;
  Copies graph_copies_;
};

}  // namespace infer
