#include "cuda_slot.h"

#include "error.h"

namespace infer {

CudaSlot::CudaSlot(Engine& engine, std::size_t rows, Mode mode, bool graph)
    : rows_(rows),
      input_width_(engine.signature().input_width),
      output_width_(engine.signature().output_width),
      mode_(mode),
      host_input_(pinned_array(rows * input_width_)),
      host_output_(pinned_array(rows * output_width_)),
      device_input_(device_array(rows * input_width_)),
      device_output_(device_array(rows * output_width_)),
      stream_(make_stream()),
      execution_(engine.execution(device_input_.get(), device_output_.get(), stream_.get(), mode)) {
  // NaN: a program that serves gets memory back in which an earlier request left its samples and its answers.
  constexpr int nan_byte = 0xff;
  INFER_CUDA(cudaMemsetAsync(device_input_.get(), nan_byte, rows * input_width_ * sizeof(float), stream_.get()));
  INFER_CUDA(cudaMemsetAsync(device_output_.get(), nan_byte, rows * output_width_ * sizeof(float), stream_.get()));
  if (graph) {
    capture();
  }
}

CudaSlot::~CudaSlot() {
  // After a failure batches may still be under way; memory is freed when the device no longer uses it.
  static_cast<void>(cudaStreamSynchronize(stream_.get()));
}

Copies CudaSlot::enqueue(std::size_t rows) {
  execution_->set_rows(rows);
  INFER_CUDA(cudaMemcpyAsync(device_input_.get(), host_input_.get(), rows * input_width_ * sizeof(float),
                             cudaMemcpyHostToDevice, stream_.get()));
  if (mode_ == Mode::wait) {
    INFER_CUDA(cudaStreamSynchronize(stream_.get()));
  }
  execution_->run();
  INFER_CUDA(cudaMemcpyAsync(host_output_.get(), device_output_.get(), rows * output_width_ * sizeof(float),
                             cudaMemcpyDeviceToHost, stream_.get()));
  return {1, 1};
}

void CudaSlot::capture() {
  // Enqueued once before: TensorRT then has done what it defers to the first use of a shape, which allocates and so
  // cannot be captured.
  static_cast<void>(enqueue(rows_));
  INFER_CUDA(cudaStreamSynchronize(stream_.get()));
  INFER_CUDA(cudaStreamBeginCapture(stream_.get(), cudaStreamCaptureModeThreadLocal));
  cudaGraph_t captured = nullptr;
  try {
    graph_copies_ = enqueue(rows_);
  } catch (const DeviceError& error) {
    static_cast<void>(cudaStreamEndCapture(stream_.get(), &captured));  // the enqueuing has failed already
    const Graph discarded(captured);
    throw DeviceError(std::string(error.what()) + " (while capturing a CUDA graph; --no-graphs does without)");
  }
  check(cudaStreamEndCapture(stream_.get(), &captured), "cudaStreamEndCapture (--no-graphs does without)");
  const Graph graph(captured);
  cudaGraphExec_t executable = nullptr;
  INFER_CUDA(cudaGraphInstantiateWithFlags(&executable, graph.get(), 0));
  graph_.reset(executable);
  INFER_CUDA(cudaGraphUpload(graph_.get(), stream_.get()));
  INFER_CUDA(cudaStreamSynchronize(stream_.get()));
}

Copies CudaSlot::start(std::size_t rows) {
  if (graph_ == nullptr) {
    return enqueue(rows);
  }
  if (rows != rows_) {
    throw std::logic_error("a slot with a graph of " + std::to_string(rows_) + " samples was given " +
                           std::to_string(rows));
  }
  INFER_CUDA(cudaGraphLaunch(graph_.get(), stream_.get()));
  return graph_copies_;
}

bool CudaSlot::done() {
  const cudaError_t status = cudaStreamQuery(stream_.get());
  if (status == cudaErrorNotReady) {
    return false;
  }
  check(status, "cudaStreamQuery");
  return true;
}

void CudaSlot::wait() { INFER_CUDA(cudaStreamSynchronize(stream_.get())); }

}  // namespace infer
