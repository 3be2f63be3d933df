// A test is TEST("its promise") { ... } with EXPECT, EXPECT_EQ and EXPECT_THROWS in it.
#pragma once

#include <functional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace testing {

struct Test {
  std::string promise;
  void (*body)();
};

std::vector<Test>& all();

struct Registered {
  Registered(const char* promise, void (*body)()) { all().push_back({promise, body}); }
};

class Failure : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

template <typename T>
std::string shown(const T& value) {
  std::ostringstream text;
  text.precision(9);
  text << value;
  return text.str();
}

inline void expect(bool good, const std::string& what, const char* file, int line) {
  if (!good) {
    throw Failure(std::string(file) + ":" + std::to_string(line) + ": " + what);
  }
}

template <typename A, typename B>
void expect_equal(const A& actual, const B& expected, const char* what, const char* file, int line) {
  expect(actual == expected, std::string(what) + ": got " + shown(actual) + ", expected " + shown(expected), file,
         line);
}

/// Runs what must throw an E whose message has all of the parts.
template <typename E>
void expect_throws(const std::function<void()>& body, const std::vector<std::string>& parts, const char* file,
                   int line) {
  try {
    body();
  } catch (const E& error) {
    for (const std::string& part : parts) {
      expect(std::string_view(error.what()).find(part) != std::string_view::npos,
             "the message lacks '" + part + "': " + error.what(), file, line);
    }
    return;
  }
  expect(false, "nothing was thrown", file, line);
}

#define TESTING_JOIN2(a, b) a##b
#define TESTING_JOIN(a, b) TESTING_JOIN2(a, b)
#define TEST(promise)                                                                                             \
  static void TESTING_JOIN(test_, __LINE__)();                                                                    \
  static const ::testing::Registered TESTING_JOIN(registered_, __LINE__)(promise, TESTING_JOIN(test_, __LINE__)); \
  static void TESTING_JOIN(test_, __LINE__)()
#define EXPECT(condition) ::testing::expect((condition), #condition, __FILE__, __LINE__)
#define EXPECT_EQ(actual, expected) ::testing::expect_equal((actual), (expected), #actual, __FILE__, __LINE__)
#define EXPECT_THROWS(error, body, ...) \
  ::testing::expect_throws<error>([&] { body; }, {__VA_ARGS__}, __FILE__, __LINE__)

}  // namespace testing
