// How many batches should be on the device at once.
#pragma once

#include <cstddef>
#include <functional>

namespace infer {

/// As many slots as are made where nobody says how many.
constexpr std::size_t most_slots = 16;

/// Runs that many batches on that many slots and gives the seconds.
using Measure = std::function<double(std::size_t slots, std::size_t batches)>;

/// Gives the number of slots, of 4, 8 and all, with which batches are done soonest. All, without a measurement, where
/// there are too few batches to tell, or where each takes so long that it hardly matters. Takes about half a second,
/// two at most. ``slots`` are there, and ``batches`` to run on them.
std::size_t tune(std::size_t slots, std::size_t batches, const Measure& measure);

}  // namespace infer
