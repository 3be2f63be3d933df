#include "tuning.h"

#include <algorithm>
#include <limits>

namespace infer {

namespace {

/// A measurement is about so long: many batches, and short beside the start of a process that uses a GPU.
constexpr double measurement_seconds = 0.03;
/// The fewest batches that tell anything may take no longer than this, or nothing is compared.
constexpr double bearable_seconds = 0.1;
constexpr int rounds = 5;

}  // namespace

std::vector<Settings> candidates(std::size_t slots, const std::vector<std::size_t>& copiers) {
  std::vector<Settings> all;
  for (std::size_t few = 4; few < slots && few <= 8; few *= 2) {
    for (const std::size_t threads : copiers) {
      all.push_back({few, threads});
    }
  }
  for (const std::size_t threads : copiers) {
    all.push_back({slots, threads});
  }
  return all;
}

Settings tune(const std::vector<Settings>& candidates, std::size_t batches, const Measure& measure) {
  const Settings last = candidates.back();
  // A pass has to have a middle, where every slot is at work, that outweighs its start and its end.
  const std::size_t least = 4 * last.slots;
  if (candidates.size() == 1 || batches < least) {
    return last;
  }
  const double seconds = measure(last, least);
  if (seconds > bearable_seconds) {
    return last;
  }
  const double wanted = measurement_seconds / seconds * static_cast<double>(least);
  const std::size_t measured =
      wanted < static_cast<double>(batches) ? std::max(least, static_cast<std::size_t>(wanted)) : batches;

  std::vector<double> best(candidates.size(), std::numeric_limits<double>::infinity());
  // In turn, so that a clock that rises, or another process, favours none of them.
  for (int round = 0; round < rounds; ++round) {
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      best[i] = std::min(best[i], measure(candidates[i], measured));
    }
  }
  return candidates[static_cast<std::size_t>(std::min_element(best.begin(), best.end()) - best.begin())];
}

}  // namespace infer
