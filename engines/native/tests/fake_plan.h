// A plan in place of TensorRT's: its content is the number of values a sample; it runs on the stand-in for a device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "error.h"
#include "fake_slot.h"
#include "loaded_plan.h"

namespace tests {

class FakePlan final : public infer::LoadedPlan {
 public:
  static constexpr std::size_t most_batch = 32;

  /// Throws DeviceError where the content is no number.
  FakePlan(const std::string& plan, std::string_view content) {
    const std::string text(content);
    if (text.empty() || text.find_first_not_of("0123456789") != std::string::npos) {
      throw infer::DeviceError(plan + ": cannot be loaded as a plan;\nallowed: a number");
    }
    const std::size_t width = std::stoul(text);
    signature_.input = {"x", true, "float32", {-1, static_cast<std::int64_t>(width)}, "linear", true};
    signature_.output = {"y", false, "float32", {-1, FakeSlot::outputs}, "linear", true};
    signature_.input_width = width;
    signature_.output_width = FakeSlot::outputs;
    signature_.least_batch = 1;
    signature_.most_batch = most_batch;
  }

  const infer::Signature& signature() const noexcept override { return signature_; }
  infer::Mode single_stream_mode() const noexcept override { return infer::Mode::wait; }
  std::unique_ptr<infer::Slot> slot(std::size_t rows, infer::Mode mode, bool /*graph*/) override {
    auto made = std::make_unique<FakeSlot>(rows, signature_.input_width, ++slots, mode == infer::Mode::wait);
    made->fails_at = slots == fails_in ? 1 : 0;
    return made;
  }
  const std::string& device() const noexcept override { return device_; }
  double load_seconds() const noexcept override { return 0.25; }

  unsigned slots = 0;     ///< made so far
  unsigned fails_in = 0;  ///< the slot, counted from 1, that fails as it starts; 0: none

 private:
  infer::Signature signature_;
  std::string device_ = "a stand-in";
};

}  // namespace tests
