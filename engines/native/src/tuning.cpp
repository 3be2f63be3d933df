#include "tuning.h"

#include <algorithm>
#include <array>
#include <limits>

namespace infer {

namespace {

/// A measurement is about so long: many batches, and short beside the start of a process that uses a GPU.
constexpr double measurement_seconds = 0.05;
/// The fewest batches that tell anything may take no longer than this, or nothing is measured.
constexpr double bearable_seconds = 0.2;
constexpr int rounds = 3;

}  // namespace

std::size_t tune(std::size_t slots, std::size_t batches, const Measure& measure) {
  // A pass has to have a middle, where every slot is at work, that outweighs its start and its end.
  const std::size_t least = 4 * slots;
  if (slots <= 1 || batches < least) {
    return slots;
  }
  const double seconds = measure(slots, least);
  if (seconds > bearable_seconds) {
    return slots;
  }
  const double wanted = measurement_seconds / seconds * static_cast<double>(least);
  const std::size_t measured =
      wanted < static_cast<double>(batches) ? std::max(least, static_cast<std::size_t>(wanted)) : batches;

  struct Candidate {
    std::size_t slots;
    double seconds;
  };
  std::array<Candidate, 3> candidates{};
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    const std::size_t few = std::size_t{4} << i;
    candidates[i] = {i + 1 < candidates.size() ? std::min(few, slots) : slots, std::numeric_limits<double>::infinity()};
  }
  // In turn, so that a clock that rises, or another process, favours none of them.
  for (int round = 0; round < rounds; ++round) {
    for (Candidate& candidate : candidates) {
      candidate.seconds = std::min(candidate.seconds, measure(candidate.slots, measured));
    }
  }
  const auto faster = [](const Candidate& one, const Candidate& other) { return one.seconds < other.seconds; };
  return std::min_element(candidates.begin(), candidates.end(), faster)->slots;
}

}  // namespace infer
