// Requests and their answers, on a pipe that cuts them anywhere.
#include "serve.h"

#include <unistd.h>

#include <array>
#include <csignal>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "child.h"
#include "error.h"
#include "testing.h"

using infer::DeviceError;
using infer::InputError;
using infer::serve;
using tests::Child;

namespace {

using Words = std::vector<std::string>;

std::string framed(const Words& words) {
  std::string bytes;
  for (const std::string& word : words) {
    bytes += word + '\0';
  }
  return bytes + '\0';
}

/// A pipe, each of whose ends may be closed before it.
class Pipe {
 public:
  Pipe() {
    if (pipe(ends_.data()) != 0) {
      throw std::runtime_error("no pipe");
    }
  }
  ~Pipe() {
    close_end(0);
    close_end(1);
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;

  int out() const { return ends_[0]; }
  int in() const { return ends_[1]; }
  void close_end(std::size_t which) {
    if (ends_.at(which) >= 0) {
      static_cast<void>(close(ends_.at(which)));
      ends_.at(which) = -1;
    }
  }
  void write(std::string_view bytes, std::size_t at_once) {
    for (std::size_t i = 0; i < bytes.size(); i += at_once) {
      const std::string_view piece = bytes.substr(i, at_once);
      if (::write(in(), piece.data(), piece.size()) != static_cast<ssize_t>(piece.size())) {
        throw std::runtime_error("the pipe takes no more");
      }
    }
  }
  std::string read_all() {
    close_end(1);
    std::string text;
    std::array<char, 4096> bytes{};
    for (ssize_t got = 0; (got = read(out(), bytes.data(), bytes.size())) > 0;) {
      text.append(bytes.data(), static_cast<std::size_t>(got));
    }
    return text;
  }

 private:
  std::array<int, 2> ends_{-1, -1};
};

/// What was served: the requests that arrived, the answers, and the exit code.
struct Served {
  std::vector<Words> requests;
  std::string answers;
  int code = -1;
};

/// Serves bytes that come ``at_once`` a write. A request "fail WHAT" fails so.
Served served(const std::string& bytes, std::size_t at_once = 1U << 16U) {
  Pipe requests;
  Pipe answers;
  std::thread writer([&] {
    requests.write(bytes, at_once);
    requests.close_end(1);
  });
  Served result;
  std::exception_ptr thrown;
  try {
    result.code = serve(requests.out(), answers.in(), [&result](const Words& words) {
      result.requests.push_back(words);
      const std::string what = words.size() > 1 && words[0] == "fail" ? words[1] : "";
      if (what == "input") {
        throw InputError("s.raw: is no\nfile");
      }
      if (what == "device") {
        throw DeviceError("CUDA: lost");
      }
      if (what == "memory") {
        throw std::bad_alloc();
      }
      if (what == "fault") {
        throw std::logic_error("a fault");
      }
    });
  } catch (...) {
    thrown = std::current_exception();
  }
  writer.join();
  result.answers = answers.read_all();
  if (thrown) {
    std::rethrow_exception(thrown);
  }
  return result;
}

}  // namespace

TEST("requests arrive word by word and in order, wherever the pipe cuts them, and each has an answer by its number") {
  const std::vector<Words> requests{
      {"--raw", "a b", "--output", "new\nline"}, {"one"}, {}, {"--json=r.json", "ä", std::string(9000, 'x')}};
  std::string bytes;
  for (const Words& words : requests) {
    bytes += framed(words);
  }
  for (const std::size_t at_once : {std::size_t{1}, std::size_t{7}, bytes.size()}) {
    const Served result = served(bytes, at_once);
    EXPECT(result.requests == requests);
    EXPECT_EQ(result.answers, "0 0\n1 0\n2 0\n3 0\n4 0\n");
    EXPECT_EQ(result.code, 0);
  }
}

TEST("a refused request is answered in one line with why, and the next one is run") {
  const Served result = served(framed({"fail", "input"}) + framed({"good"}));
  EXPECT_EQ(result.answers, "0 0\n1 2 s.raw: is no file\n2 0\n");
  EXPECT_EQ(result.requests.size(), 2U);
  EXPECT_EQ(result.code, 0);
}

TEST("a request that may have left the device or the program in a bad state is answered, and is the last one") {
  const auto last = [](const std::string& what) { return served(framed({"fail", what}) + framed({"good"})); };
  for (const auto& [what, code, answer] :
       std::vector<std::tuple<std::string, int, std::string>>{{"device", 3, "1 3 CUDA: lost\n"},
                                                              {"memory", 1, "1 1 out of memory on this machine\n"},
                                                              {"fault", 1, "1 1 a fault\n"}}) {
    const Served result = last(what);
    EXPECT_EQ(result.answers, "0 0\n" + answer);
    EXPECT_EQ(result.requests.size(), 1U);
    EXPECT_EQ(result.code, code);
  }
}

TEST("an input that ends before a request ends the serving, and one that ends within it is an error") {
  EXPECT_EQ(served("").answers, "0 0\n");
  EXPECT_EQ(served("").code, 0);
  const std::string whole = framed({"--raw", "s"});
  for (std::size_t size = 1; size < whole.size(); ++size) {
    EXPECT_THROWS(InputError, served(whole + whole.substr(0, size)),
                  "standard input: ends within a request, after " + std::to_string(size) + " bytes");
  }
}

TEST("a request without an end is refused before it fills the memory") {
  Pipe answers;
  Pipe requests;
  Child endless([&] {
    static_cast<void>(std::signal(SIGPIPE, SIG_DFL));
    requests.close_end(0);
    for (;;) {
      requests.write(std::string(4096, 'x'), 4096);
    }
  });
  requests.close_end(1);
  EXPECT_THROWS(InputError, serve(requests.out(), answers.in(), [](const Words&) {}),
                "standard input: a request is longer than 1048576 bytes");
  requests.close_end(0);
  EXPECT_EQ(endless.wait(), -SIGPIPE);
}

TEST("a server ends when who asks is gone, with nobody left to answer") {
  Pipe requests;
  Pipe answers;
  Child server([&] {
    requests.close_end(1);
    answers.close_end(0);
    _exit(10 + serve(requests.out(), answers.in(), [](const Words&) {}));
  });
  requests.close_end(0);
  answers.close_end(0);
  requests.close_end(1);
  const int end = server.wait();
  EXPECT(end == 10 || end == -SIGPIPE);  // the first line is written before or after the pipe is closed
}
