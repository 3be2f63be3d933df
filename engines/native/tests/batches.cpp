// How samples are divided into batches.
#include <memory>
#include <vector>

#include "fake_slot.h"
#include "pipeline.h"
#include "testing.h"

using infer::Pass;
using infer::Pipeline;
using infer::Slot;
using tests::FakeSlot;

namespace {

struct Run {
  Pass pass;
  std::vector<std::vector<std::size_t>> slots;
  std::vector<std::size_t> tail;
};

Run run(std::size_t count, std::size_t batch, std::size_t streams, bool own_tail) {
  std::vector<std::unique_ptr<Slot>> slots;
  std::vector<FakeSlot*> seen;
  for (std::size_t i = 0; i < streams; ++i) {
    auto slot = std::make_unique<FakeSlot>(batch, 1, static_cast<unsigned>(i + 1));
    seen.push_back(slot.get());
    slots.push_back(std::move(slot));
  }
  auto tail = own_tail ? std::make_unique<FakeSlot>(count % batch, 1, 99U) : nullptr;
  FakeSlot* seen_tail = tail.get();
  Pipeline pipeline(batch, 1, FakeSlot::outputs, std::move(slots), std::move(tail), 0);
  const std::vector<float> samples(count, 1);
  std::vector<float> outputs(count * FakeSlot::outputs);
  Run result{pipeline.run(samples.data(), count, outputs.data()), {}, {}};
  for (const FakeSlot* slot : seen) {
    result.slots.push_back(slot->batches);
  }
  if (seen_tail != nullptr) {
    result.tail = seen_tail->batches;
  }
  return result;
}

using Sizes = std::vector<std::size_t>;

}  // namespace

TEST("100 samples in batches of 32 are four transfers each way, the last of 4 samples in a slot of its own") {
  const Run result = run(100, 32, 2, true);
  EXPECT_EQ(result.pass.copies.host_to_device, 4U);
  EXPECT_EQ(result.pass.copies.device_to_host, 4U);
  EXPECT_EQ(result.pass.latencies.size(), 4U);
  EXPECT((result.slots == std::vector<Sizes>{{32, 32}, {32}}));
  EXPECT((result.tail == Sizes{4}));
}

TEST("without a slot of its own, the remainder takes its turn") {
  const Run result = run(100, 32, 1, false);
  EXPECT((result.slots == std::vector<Sizes>{{32, 32, 32, 4}}));
  EXPECT_EQ(result.pass.copies.host_to_device, 4U);
}

TEST("a number of samples that the batch divides leaves no remainder") {
  const Run result = run(96, 32, 8, false);
  EXPECT_EQ(result.pass.copies.host_to_device, 3U);
  EXPECT((result.slots == std::vector<Sizes>{{32}, {32}, {32}, {}, {}, {}, {}, {}}));
}

TEST("fewer samples than a batch are one remainder") {
  const Run result = run(5, 32, 0, true);
  EXPECT_EQ(result.pass.copies.host_to_device, 1U);
  EXPECT((result.tail == Sizes{5}));
}

TEST("no samples are no batches") {
  const Run result = run(0, 32, 2, false);
  EXPECT_EQ(result.pass.copies.host_to_device, 0U);
  EXPECT(result.pass.latencies.empty());
}
