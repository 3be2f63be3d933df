// Requests, one after the other, each answered by a line.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace infer {

/// Runs a request, given its words. What it throws is its answer.
using Request = std::function<void(const std::vector<std::string>& words)>;

/// Runs the requests that a file descriptor brings, until it ends: words, each ended by a zero byte, and one more zero
/// byte behind the last of them. Each is answered by a line: its number from 1 on, a space, an exit code, and behind
/// any but 0 another space and the message. The first line, "0 0", comes before any request.
///
/// Gives the exit code: 0 at the end of the requests, or that of a request which may have left the device or the
/// program in a bad state (1 and 3), which is the last one. Throws InputError where the input ends within a request,
/// one is too long, or the descriptors cannot be read or written.
int serve(int requests, int answers, const Request& request);

}  // namespace infer
