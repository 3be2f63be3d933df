#include "serve.h"

#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <optional>
#include <string_view>
#include <system_error>

#include "error.h"

namespace infer {

namespace {

/// As long as a request may be. Its words are options and names of files: what is longer is none.
constexpr std::size_t most_bytes = std::size_t{1} << 20U;

/// Reads requests, wherever the pipe cuts them.
class Requests {
 public:
  explicit Requests(int descriptor) : descriptor_(descriptor) {}

  /// Gives the words of the next request; none where the input ends before it.
  std::optional<std::vector<std::string>> next() {
    std::vector<std::string> words;
    std::size_t start = 0;
    for (;;) {
      const std::size_t end = buffer_.find('\0', start);
      if (end == std::string::npos) {
        if (read_more()) {
          continue;
        }
        if (buffer_.empty()) {
          return std::nullopt;
        }
        throw InputError("standard input: ends within a request, after " + std::to_string(buffer_.size()) +
                         " bytes of it; allowed: words that each end with a zero byte, and one more zero byte");
      }
      if (end == start) {
        buffer_.erase(0, end + 1);
        return words;
      }
      words.push_back(buffer_.substr(start, end - start));
      start = end + 1;
    }
  }

 private:
  /// Reads what there is, waiting for some; false where the input ends.
  bool read_more() {
    if (buffer_.size() > most_bytes) {
      throw InputError("standard input: a request is longer than " + std::to_string(most_bytes) +
                       " bytes; allowed: words that each end with a zero byte, and one more zero byte");
    }
    char bytes[4096];
    ssize_t got = 0;
    do {
      got = read(descriptor_, bytes, sizeof(bytes));
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
      throw InputError("standard input cannot be read: " + std::generic_category().message(errno));
    }
    buffer_.append(bytes, static_cast<std::size_t>(got));
    return got > 0;
  }

  int descriptor_;
  std::string buffer_;
};

void answer(int descriptor, std::size_t number, const Failure& failure) {
  const std::string line = std::to_string(number) + " " + std::to_string(failure.code) +
                           (failure.code == 0 ? "" : " " + failure.message) + "\n";
  for (std::string_view left = line; !left.empty();) {
    const ssize_t put = write(descriptor, left.data(), left.size());
    if (put < 0 && errno != EINTR) {
      throw InputError("standard output cannot be written: " + std::generic_category().message(errno));
    }
    left.remove_prefix(put < 0 ? 0 : static_cast<std::size_t>(put));
  }
}

}  // namespace

int serve(int requests, int answers, const Request& request) {
  Requests input(requests);
  answer(answers, 0, {});
  for (std::size_t number = 1; const auto words = input.next(); ++number) {
    Failure failure;
    try {
      request(*words);
    } catch (const std::exception&) {
      failure = failure_handled();
    }
    answer(answers, number, failure);
    if (failure.code == 1 || failure.code == 3) {
      return failure.code;
    }
  }
  return 0;
}

}  // namespace infer
