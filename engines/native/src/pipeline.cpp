#include "pipeline.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

namespace infer {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

/// Polls for the next thing to happen: at once for a while, then giving way to other threads.
class Patience {
 public:
  void lose() noexcept {
    constexpr int briefly = 64;
    if (++polls_ < briefly) {
      pause_briefly();
    } else {
      std::this_thread::yield();
    }
  }
  void regain() noexcept { polls_ = 0; }

 private:
  int polls_ = 0;
};

/// A batch's slot with what is known of it.
struct Place {
  Slot* slot = nullptr;
  std::atomic<bool> copied{false};
  Clock::time_point started;
};

}  // namespace

Pipeline::Pipeline(std::size_t batch, std::size_t input_width, std::size_t output_width,
                   std::vector<std::unique_ptr<Slot>> slots, std::unique_ptr<Slot> tail, std::size_t copiers)
    : batch_(batch),
      input_width_(input_width),
      output_width_(output_width),
      slots_(std::move(slots)),
      used_(slots_.size()),
      tail_(std::move(tail)),
      copiers_(std::in_place, copiers) {}

void Pipeline::use(std::size_t slots, std::size_t copiers) {
  used_ = std::min(std::max<std::size_t>(slots, 1), slots_.size());
  if (copiers != copiers_->threads()) {
    copiers_.emplace(copiers);
  }
}

Pass Pipeline::run(const float* samples, std::size_t count, float* outputs, const Fed& fed) {
  const std::size_t batches = (count + batch_ - 1) / batch_;
  const auto rows = [&](std::size_t index) { return std::min(batch_, count - index * batch_); };

  // One place for each slot, and one more for the tail; places and batches go round together.
  std::vector<Place> places(used_ + 1);
  for (std::size_t i = 0; i < used_; ++i) {
    places[i].slot = slots_[i].get();
  }
  places.back().slot = tail_.get();
  const auto in_tail = [&](std::size_t index) { return tail_ != nullptr && rows(index) < batch_; };
  const auto place = [&](std::size_t index) -> Place& {
    return in_tail(index) ? places.back() : places[index % used_];
  };

  std::size_t copying = 0;  // batches handed to the copiers so far; those before `started` have left for the device,
  std::size_t started = 0;  // those before `collected` are back: collected <= started <= copying
  std::size_t collected = 0;
  // Batches are started several at a time where there are slots enough: their kernels then share the device from the
  // first on.
  const std::size_t together = std::max<std::size_t>(1, used_ / 4);
  const auto ready = [&](std::size_t index) {
    const std::size_t end = index % together != 0 ? index + 1 : std::min(index + together, batches);
    for (std::size_t i = index; i < end; ++i) {
      if (i >= copying || !place(i).copied.load(std::memory_order_acquire)) {
        return false;
      }
    }
    return true;
  };

  Pass pass;
  pass.latencies.reserve(batches);
  Patience patience;
  const Clock::time_point begin = Clock::now();
  try {
    while (collected < batches) {
      bool moved = false;
      if (started < copying && ready(started)) {
        Place& next = place(started);
        if (fed) {
          fed(next.slot->input(), rows(started) * input_width_);
        }
        next.started = Clock::now();
        const Copies copies = next.slot->start(rows(started));
        pass.copies.host_to_device += copies.host_to_device;
        pass.copies.device_to_host += copies.device_to_host;
        ++started;
        moved = true;
      }
      if (collected < started && place(collected).slot->done()) {
        const Place& oldest = place(collected);
        pass.latencies.push_back(static_cast<float>(seconds_since(oldest.started) * 1e3));
        std::memcpy(outputs + collected * batch_ * output_width_, oldest.slot->output(),
                    rows(collected) * output_width_ * sizeof(float));
        ++collected;
        moved = true;
      }
      if (copying < batches && (in_tail(copying) || copying < collected + used_)) {
        Place& next = place(copying);
        next.copied.store(false, std::memory_order_relaxed);
        copiers_->copy(samples + copying * batch_ * input_width_, next.slot->input(), rows(copying) * input_width_,
                       next.copied);
        ++copying;
        moved = true;
      }
      if (moved) {
        patience.regain();
      } else if (copying == started) {
        place(collected).slot->wait();  // nothing is being copied: only the device can move things on
      } else {
        patience.lose();
      }
    }
  } catch (...) {
    copiers_->drain();
    throw;
  }
  pass.seconds = seconds_since(begin);
  return pass;
}

}  // namespace infer
