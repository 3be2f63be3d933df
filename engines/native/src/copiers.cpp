#include "copiers.h"

#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace infer {

void pause_briefly() noexcept {
#if defined(__SSE2__)
  _mm_pause();
#else
  std::this_thread::yield();
#endif
}

Copiers::Copiers(std::size_t threads) {
  try {
    for (std::size_t i = 0; i < threads; ++i) {
      threads_.emplace_back([this] { work(); });
    }
  } catch (...) {
    stop();
    throw;
  }
}

Copiers::~Copiers() { stop(); }

void Copiers::stop() noexcept {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  added_.notify_all();
  for (std::thread& thread : threads_) {
    thread.join();
  }
}

void Copiers::copy(const float* from, float* to, std::size_t count, std::atomic<bool>& done) {
  if (threads_.empty()) {
    std::memcpy(to, from, count * sizeof(float));
    done.store(true, std::memory_order_release);
    return;
  }
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    tasks_.push_back({from, to, count, &done});
    ++unfinished_;
    waiting_.store(tasks_.size(), std::memory_order_relaxed);
  }
  added_.notify_one();
}

void Copiers::drain() {
  std::unique_lock<std::mutex> lock(mutex_);
  idle_.wait(lock, [this] { return unfinished_ == 0; });
}

void Copiers::work() {
  for (;;) {
    // Waking a sleeping thread takes as long as copying a batch, and at full throughput the next is asked for sooner.
    for (int i = 0; i < 2000 && waiting_.load(std::memory_order_relaxed) == 0; ++i) {
      pause_briefly();
    }
    Task task;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      added_.wait(lock, [this] { return stopping_ || !tasks_.empty(); });
      if (tasks_.empty()) {
        return;
      }
      task = tasks_.front();
      tasks_.pop_front();
      waiting_.store(tasks_.size(), std::memory_order_relaxed);
    }
    std::memcpy(task.to, task.from, task.count * sizeof(float));
    task.done->store(true, std::memory_order_release);
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (--unfinished_ == 0) {
        idle_.notify_all();
      }
    }
  }
}

}  // namespace infer
