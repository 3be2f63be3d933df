// Threads that copy.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

namespace infer {

/// Threads that copy what they are given, in order of the asking; with none, the asking thread copies.
class Copiers {
 public:
  explicit Copiers(std::size_t threads);
  /// Waits for all copies under way, then for the threads.
  ~Copiers();
  Copiers(const Copiers&) = delete;
  Copiers& operator=(const Copiers&) = delete;
  Copiers(Copiers&&) = delete;
  Copiers& operator=(Copiers&&) = delete;

  std::size_t threads() const noexcept { return threads_.size(); }

  /// Copies ``count`` values, then sets ``done``.
  void copy(const float* from, float* to, std::size_t count, std::atomic<bool>& done);
  /// Waits until all copies asked for are done.
  void drain();

 private:
  struct Task {
    const float* from = nullptr;
    float* to = nullptr;
    std::size_t count = 0;
    std::atomic<bool>* done = nullptr;
  };
  void work();
  void stop() noexcept;

  std::mutex mutex_;
  std::condition_variable added_;
  std::condition_variable idle_;
  std::deque<Task> tasks_;
  std::size_t unfinished_ = 0;
  bool stopping_ = false;
  std::atomic<std::size_t> waiting_{0};  // tasks in tasks_, to look at without the lock
  std::vector<std::thread> threads_;
};

/// Lets the other hyperthread of a core run while this thread polls.
void pause_briefly() noexcept;

}  // namespace infer
