// Batches on their way: copied to page-locked memory, started on the device, collected. Knows neither CUDA nor
// TensorRT.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "copiers.h"

namespace infer {

/// Transfers between host and device, each of one batch of one tensor.
struct Copies {
  std::size_t host_to_device = 0;
  std::size_t device_to_host = 0;
};

/// The place of one batch: page-locked memory for what goes in and out, and a stream that runs it.
class Slot {
 public:
  Slot() = default;
  virtual ~Slot() = default;
  Slot(const Slot&) = delete;
  Slot& operator=(const Slot&) = delete;
  Slot(Slot&&) = delete;
  Slot& operator=(Slot&&) = delete;

  virtual float* input() noexcept = 0;
  virtual const float* output() const noexcept = 0;
  /// Starts a batch: transfer in, engine, transfer out. May return before it is done. Gives the transfers.
  virtual Copies start(std::size_t rows) = 0;
  /// Tells whether the batch is done, without waiting.
  virtual bool done() = 0;
  /// Waits until the batch is done.
  virtual void wait() = 0;
};

/// One pass over samples.
struct Pass {
  double seconds = 0;  ///< from the first copy to page-locked memory to the last output collected
  Copies copies;
  std::vector<float> latencies;  ///< milliseconds of each batch, from just before its start until it was found done
};

/// Called with what was put into page-locked memory, batch by batch in order, just before each batch is started.
using Fed = std::function<void(const float* values, std::size_t count)>;

/// Runs samples in batches: while some are copied, others run. One thread, the caller's, starts and collects them all.
class Pipeline {
 public:
  /// ``slots`` take full batches, in turn. ``tail`` takes a last batch with fewer samples; null: a slot does, too.
  /// ``input_width`` and ``output_width`` count the values of a sample.
  Pipeline(std::size_t batch, std::size_t input_width, std::size_t output_width,
           std::vector<std::unique_ptr<Slot>> slots, std::unique_ptr<Slot> tail, std::size_t copiers);

  /// Uses the first ``slots`` slots alone from the next run on, one at least, and ``copiers`` threads that copy.
  void use(std::size_t slots, std::size_t copiers);
  std::size_t slots() const noexcept { return slots_.size(); }

  /// Runs ``count`` samples and writes their outputs, in order. What a slot throws comes through; then no thread
  /// reads ``samples`` any more, and the pipeline is good for nothing but to be destroyed.
  Pass run(const float* samples, std::size_t count, float* outputs, const Fed& fed = nullptr);

 private:
  std::size_t batch_;
  std::size_t input_width_;
  std::size_t output_width_;
  std::vector<std::unique_ptr<Slot>> slots_;
  std::size_t used_;
  std::unique_ptr<Slot> tail_;
  std::optional<Copiers> copiers_;  // last, so that its threads end before the memory they write to
};

}  // namespace infer
