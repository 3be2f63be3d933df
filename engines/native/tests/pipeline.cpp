// Batches under way at once: every sample's output in its place, whatever the timing.
#include "pipeline.h"

#include <atomic>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "fake_slot.h"
#include "sha256.h"
#include "testing.h"

using infer::Pass;
using infer::Pipeline;
using infer::Sha256;
using infer::Slot;
using tests::FakeSlot;

namespace {

struct Setup {
  std::size_t batch;
  std::size_t width;
  std::size_t streams;
  std::size_t copiers;
  std::size_t tail;  ///< samples of the tail's slot; 0: none
  bool waits = false;
};

std::unique_ptr<Pipeline> make(const Setup& setup, FakeSlot** first = nullptr) {
  std::vector<std::unique_ptr<Slot>> slots;
  for (std::size_t i = 0; i < setup.streams; ++i) {
    auto slot = std::make_unique<FakeSlot>(setup.batch, setup.width, static_cast<unsigned>(i + 1), setup.waits);
    if (first != nullptr && i == 0) {
      *first = slot.get();
    }
    slots.push_back(std::move(slot));
  }
  auto tail = setup.tail > 0 ? std::make_unique<FakeSlot>(setup.tail, setup.width, 99U, setup.waits) : nullptr;
  return std::make_unique<Pipeline>(setup.batch, setup.width, FakeSlot::outputs, std::move(slots), std::move(tail),
                                    setup.copiers);
}

std::vector<float> numbers(std::size_t count, std::size_t width, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<float> values(count * width);
  for (float& value : values) {
    value = static_cast<float>(random() % 1000);
  }
  return values;
}

void check_outputs(const std::vector<float>& samples, const std::vector<float>& outputs, std::size_t width) {
  for (std::size_t i = 0; i < samples.size() / width; ++i) {
    float sum = 0;
    for (std::size_t j = 0; j < width; ++j) {
      sum += samples[i * width + j];
    }
    EXPECT_EQ(outputs[i * FakeSlot::outputs], sum);
    EXPECT_EQ(outputs[i * FakeSlot::outputs + 1], samples[i * width]);
  }
}

}  // namespace

TEST("every sample's output is in its place, for any number of samples, streams and copiers") {
  std::mt19937 random(24);
  for (int round = 0; round < 60; ++round) {
    Setup setup{};
    setup.batch = 1 + random() % 40;
    setup.width = 1 + random() % 30;
    setup.streams = 1 + random() % 9;
    setup.copiers = random() % 5;
    setup.waits = setup.streams == 1 && random() % 2 == 0;
    const std::size_t count = 1 + random() % 900;
    setup.tail = setup.streams > 1 || count < setup.batch || random() % 2 == 0 ? count % setup.batch : 0;
    const auto pipeline = make(setup);
    for (unsigned pass = 0; pass < 3; ++pass) {
      const std::vector<float> samples = numbers(count, setup.width, pass);
      std::vector<float> outputs(count * FakeSlot::outputs, -1);
      const Pass result = pipeline->run(samples.data(), count, outputs.data());
      check_outputs(samples, outputs, setup.width);
      const std::size_t batches = (count + setup.batch - 1) / setup.batch;
      EXPECT_EQ(result.copies.host_to_device, batches);
      EXPECT_EQ(result.copies.device_to_host, batches);
      EXPECT_EQ(result.latencies.size(), batches);
      EXPECT(result.seconds > 0);
    }
  }
}

TEST("a pipeline uses as many of its slots and threads as it is told") {
  FakeSlot* first = nullptr;
  const auto pipeline = make({4, 3, 6, 1, 2}, &first);
  EXPECT_EQ(pipeline->slots(), 6U);
  const std::vector<float> samples = numbers(98, 3, 9);
  for (const std::size_t used : {1U, 4U, 6U, 3U}) {
    pipeline->use(used, used / 2);
    first->batches.clear();
    std::vector<float> outputs(98 * FakeSlot::outputs, -1);
    static_cast<void>(pipeline->run(samples.data(), 98, outputs.data()));
    check_outputs(samples, outputs, 3);
    EXPECT_EQ(first->batches.size(), (24 + used - 1) / used);
  }
}

TEST("what is fed is what lies in page-locked memory, in the samples' order") {
  for (const std::size_t copiers : {0U, 3U}) {
    const auto pipeline = make({8, 5, 4, copiers, 3});
    const std::vector<float> samples = numbers(107, 5, 7);
    std::vector<float> outputs(107 * FakeSlot::outputs);
    Sha256 fed;
    static_cast<void>(pipeline->run(samples.data(), 107, outputs.data(), [&](const float* values, std::size_t count) {
      EXPECT(values < samples.data() || values >= samples.data() + samples.size());
      fed.update(values, count * sizeof(float));
    }));
    Sha256 expected;
    expected.update(samples.data(), samples.size() * sizeof(float));
    EXPECT_EQ(fed.hex(), expected.hex());
  }
}

TEST("latencies are of the batches themselves, not of the whole pass") {
  const auto pipeline = make({4, 2, 3, 2, 0});
  const std::vector<float> samples = numbers(400, 2, 8);
  std::vector<float> outputs(400 * FakeSlot::outputs);
  const Pass pass = pipeline->run(samples.data(), 400, outputs.data());
  double sum = 0;
  for (const float latency : pass.latencies) {
    EXPECT(latency > 0);
    sum += latency;
  }
  EXPECT(sum <= pass.seconds * 1e3 * 3 * 1.01);  // no more than three at once
}

TEST("a device that fails ends the pass with its error, with no thread left on the samples") {
  // Many large batches and a single copier, so that most are still to be copied when the first one fails; three times,
  // for on a busy machine the copier may still get there first.
  const Setup setup{16, 50000, 40, 1, 0};
  const std::size_t count = setup.batch * setup.streams;
  for (int round = 0; round < 3; ++round) {
    FakeSlot* first = nullptr;
    auto pipeline = make(setup, &first);
    first->fails_at = 1;
    auto samples = std::make_unique<std::vector<float>>(count * setup.width, 1.0F);
    std::vector<float> outputs(count * FakeSlot::outputs);
    EXPECT_THROWS(std::runtime_error, static_cast<void>(pipeline->run(samples->data(), count, outputs.data())),
                  "the device is lost");
    samples.reset();  // a sanitizer sees whoever reads them now
    pipeline.reset();
  }
}

TEST("copies are done when they are drained, and each says so itself") {
  for (const std::size_t threads : {0U, 1U, 3U}) {
    infer::Copiers copiers(threads);
    const std::vector<float> from = numbers(200, 1000, 25);
    std::vector<float> to(from.size());
    std::vector<std::atomic<bool>> done(200);
    for (std::size_t i = 0; i < done.size(); ++i) {
      copiers.copy(from.data() + i * 1000, to.data() + i * 1000, 1000, done[i]);
    }
    copiers.drain();
    EXPECT(from == to);
    for (const std::atomic<bool>& one : done) {
      EXPECT(one.load());
    }
  }
}
