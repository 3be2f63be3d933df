// How many batches should be on the device at once, and how many threads should copy their samples.
#pragma once

#include <cstddef>
#include <functional>
#include <vector>

namespace infer {

/// As many slots as are made where nobody says how many.
constexpr std::size_t most_slots = 16;

/// What a pipeline runs with.
struct Settings {
  std::size_t slots;
  std::size_t copiers;
};

/// Lists what may be fastest: 4, 8 and all ``slots`` where there are more than one, each with every number of copiers.
std::vector<Settings> candidates(std::size_t slots, const std::vector<std::size_t>& copiers);

/// Runs that many batches with these settings and gives the seconds.
using Measure = std::function<double(const Settings& settings, std::size_t batches)>;

/// Gives the candidate with which batches are done soonest. The last one, without a comparison, where there are too few
/// ``batches`` to tell, or where each takes so long that it hardly matters. Takes about a second.
Settings tune(const std::vector<Settings>& candidates, std::size_t batches, const Measure& measure);

}  // namespace infer
