// A device in place of a GPU: each slot's stream is a thread, which reads the input and writes the output later.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <limits>
#include <mutex>
#include <random>
#include <stdexcept>
#include <thread>
#include <vector>

#include "error.h"
#include "pipeline.h"

namespace tests {

/// Puts out, for every sample, the sum of its values and its first value. Waits a random time before it reads and
/// before it writes, so that memory used too early or too late gives wrong sums, or a race that a sanitizer sees.
class FakeSlot final : public infer::Slot {
 public:
  static constexpr std::size_t outputs = 2;

  FakeSlot(std::size_t rows, std::size_t width, unsigned seed, bool waits = false)
      : rows_(rows), width_(width), waits_(waits), random_(seed), input_(rows * width), output_(rows * outputs) {
    thread_ = std::thread([this] { work(); });
  }

  ~FakeSlot() override {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  float* input() noexcept override { return input_.data(); }
  const float* output() const noexcept override { return output_.data(); }

  infer::Copies start(std::size_t rows) override {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (pending_ != 0 || rows == 0 || rows > rows_) {
        throw std::logic_error("a slot was started while it ran, or with a batch that it does not hold");
      }
      if (fails_at > 0 && --fails_at == 0) {
        throw infer::DeviceError("the device is lost");
      }
      batches.push_back(rows);
      pending_ = rows;
    }
    changed_.notify_all();
    if (waits_) {
      wait();
    }
    return {1, 1};
  }

  bool done() override {
    const std::lock_guard<std::mutex> lock(mutex_);
    return pending_ == 0;
  }

  void wait() override {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return pending_ == 0; });
  }

  std::vector<std::size_t> batches;  ///< the sizes of the batches so far
  int fails_at = 0;                  ///< the start, counted from 1, that fails; 0: none

 private:
  void work() {
    for (;;) {
      std::size_t rows = 0;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        changed_.wait(lock, [this] { return stopping_ || pending_ != 0; });
        if (pending_ == 0) {
          return;
        }
        rows = pending_;
      }
      linger();
      const std::vector<float> device = input_;
      linger();
      for (std::size_t i = 0; i < rows; ++i) {
        float sum = 0;
        for (std::size_t j = 0; j < width_; ++j) {
          sum += device[i * width_ + j];
        }
        output_[i * outputs] = sum;
        output_[i * outputs + 1] = device[i * width_];
      }
      {
        const std::lock_guard<std::mutex> lock(mutex_);
        pending_ = 0;
      }
      changed_.notify_all();
    }
  }

  void linger() { std::this_thread::sleep_for(std::chrono::microseconds(random_() % 100)); }

  std::size_t rows_;
  std::size_t width_;
  bool waits_;
  std::minstd_rand random_;
  std::vector<float> input_;
  std::vector<float> output_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t pending_ = 0;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace tests
