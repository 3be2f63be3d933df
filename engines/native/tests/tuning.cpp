// The number of slots that is measured to be the fastest.
#include "tuning.h"

#include <cstddef>
#include <map>

#include "testing.h"

using infer::tune;

namespace {

/// A device on which a batch takes that many seconds with that many slots; keeps what was measured.
struct Device {
  std::map<std::size_t, double> a_batch;
  std::map<std::size_t, std::size_t> measured{};  ///< times, by slots
  std::size_t batches = 0;                        ///< of the last measurement

  std::size_t tuned(std::size_t slots, std::size_t count) {
    return tune(slots, count, [this](std::size_t used, std::size_t ran) {
      ++measured[used];
      batches = ran;
      return a_batch.at(used) * static_cast<double>(ran);
    });
  }
};

}  // namespace

TEST("as many slots are used as were the fastest") {
  EXPECT_EQ((Device{{{4, 3e-5}, {8, 2e-5}, {16, 1e-5}}}).tuned(16, 1000), 16U);
  EXPECT_EQ((Device{{{4, 3e-5}, {8, 1e-5}, {16, 2e-5}}}).tuned(16, 1000), 8U);
  EXPECT_EQ((Device{{{4, 1e-5}, {8, 2e-5}, {16, 3e-5}}}).tuned(16, 1000), 4U);
}

TEST("a measurement has enough batches to tell, and no more than there are or than take long") {
  Device quick{{{4, 1e-6}, {8, 1e-6}, {16, 1e-6}}};
  static_cast<void>(quick.tuned(16, 1000));
  EXPECT_EQ(quick.batches, 1000U);
  Device usual{{{4, 5e-4}, {8, 5e-4}, {16, 5e-4}}};
  static_cast<void>(usual.tuned(16, 1000));
  EXPECT(usual.batches >= 99 && usual.batches <= 101);
  Device slow{{{4, 3e-3}, {8, 3e-3}, {16, 3e-3}}};
  static_cast<void>(slow.tuned(16, 1000));
  EXPECT_EQ(slow.batches, 64U);
}

TEST("all slots are kept where there are too few batches to tell, or where each takes long") {
  Device few{{{4, 1e-5}, {8, 1e-5}, {16, 2e-5}}};
  EXPECT_EQ(few.tuned(16, 63), 16U);
  EXPECT(few.measured.empty());
  Device slow{{{4, 1e-2}, {8, 1e-2}, {16, 2e-2}}};
  EXPECT_EQ(slow.tuned(16, 1000), 16U);
  EXPECT_EQ(slow.measured[16], 1U);
  Device single{{{1, 1e-5}}};
  EXPECT_EQ(single.tuned(1, 1000), 1U);
  Device three{{{3, 1e-5}}};
  EXPECT_EQ(three.tuned(3, 1000), 3U);
}
