// The settings that are measured to be the fastest.
#include "tuning.h"

#include <cstddef>
#include <functional>
#include <vector>

#include "testing.h"

using infer::candidates;
using infer::Settings;
using infer::tune;

namespace {

/// A device on which a batch takes as many seconds as a function of the settings says; counts what was measured.
struct Device {
  std::function<double(const Settings&)> a_batch;
  std::size_t measurements = 0;
  std::size_t batches = 0;  ///< of the last measurement

  Settings tuned(std::size_t slots, std::size_t count) {
    return tune(candidates(slots, {1, 2}), count, [this](const Settings& settings, std::size_t ran) {
      ++measurements;
      batches = ran;
      return a_batch(settings) * static_cast<double>(ran);
    });
  }
};

Device always(double seconds) {
  return {[seconds](const Settings&) { return seconds; }};
}

}  // namespace

TEST("the settings that were the fastest are used") {
  for (const Settings& fastest : candidates(16, {1, 2})) {
    Device device{[&fastest](const Settings& settings) {
      return settings.slots == fastest.slots && settings.copiers == fastest.copiers ? 1e-5 : 2e-5;
    }};
    const Settings chosen = device.tuned(16, 1000);
    EXPECT_EQ(chosen.slots, fastest.slots);
    EXPECT_EQ(chosen.copiers, fastest.copiers);
  }
}

TEST("one slow measurement of the fastest settings does not rule them out") {
  std::size_t calls = 0;
  Device device{[&calls](const Settings& settings) {
    return settings.slots == 8 ? (++calls % 3 == 1 ? 9e-5 : 1e-5) : 2e-5;
  }};
  EXPECT_EQ(device.tuned(16, 1000).slots, 8U);
}

TEST("4, 8 and all slots are compared, with every number of copiers, and none twice") {
  const auto count = [](std::size_t slots) { return candidates(slots, {1, 2}).size(); };
  EXPECT_EQ(count(16), 6U);
  EXPECT_EQ(count(8), 4U);
  EXPECT_EQ(count(5), 4U);
  EXPECT_EQ(count(4), 2U);
  EXPECT_EQ(count(1), 2U);
  EXPECT_EQ(candidates(16, {3}).size(), 3U);
  EXPECT_EQ(candidates(16, {1, 2}).back().slots, 16U);
}

TEST("a measurement has enough batches to tell, and no more than there are or than take long") {
  Device quick = always(1e-6);
  static_cast<void>(quick.tuned(16, 1000));
  EXPECT_EQ(quick.batches, 1000U);
  Device usual = always(3e-4);
  static_cast<void>(usual.tuned(16, 1000));
  EXPECT(usual.batches >= 99 && usual.batches <= 101);
  Device slow = always(1.5e-3);
  static_cast<void>(slow.tuned(16, 1000));
  EXPECT_EQ(slow.batches, 64U);
}

TEST("all slots are kept where there are too few batches to tell, or where each takes long") {
  Device few = always(1e-5);
  EXPECT_EQ(few.tuned(16, 63).slots, 16U);
  EXPECT_EQ(few.measurements, 0U);
  Device slow = always(1e-2);
  EXPECT_EQ(slow.tuned(16, 1000).slots, 16U);
  EXPECT_EQ(slow.measurements, 1U);
}
