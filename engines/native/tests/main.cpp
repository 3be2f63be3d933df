// Runs one test by its promise, or all: native_tests [PROMISE | --expect COUNT].
#include <cstdio>
#include <exception>
#include <string>

#include "testing.h"

namespace testing {

std::vector<Test>& all() {
  static std::vector<Test> tests;
  return tests;
}

}  // namespace testing

int main(int argc, char** argv) {
  const std::string wanted = argc > 1 ? argv[1] : "";
  const auto& tests = testing::all();
  if (wanted == "--expect") {
    const std::string expected = argc > 2 ? argv[2] : "";
    std::printf("%zu tests are compiled in, and %s are known to CTest\n", tests.size(), expected.c_str());
    return std::to_string(tests.size()) == expected ? 0 : 1;
  }
  int ran = 0;
  int failed = 0;
  for (const testing::Test& test : tests) {
    if (!wanted.empty() && test.promise != wanted) {
      continue;
    }
    ++ran;
    try {
      test.body();
    } catch (const std::exception& error) {
      ++failed;
      std::printf("FAILED %s\n  %s\n", test.promise.c_str(), error.what());
    }
  }
  std::printf("%d ran, %d failed\n", ran, failed);
  return ran > 0 && failed == 0 ? 0 : 1;
}
