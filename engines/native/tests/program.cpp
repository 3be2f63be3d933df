// The whole program on the stand-in for a device: one run, and many in one process.
#include "program.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "child.h"
#include "fake_plan.h"
#include "temporary.h"
#include "testing.h"

using infer::Program;
using tests::Child;
using tests::FakePlan;
using tests::Folder;

namespace {

using Words = std::vector<std::string>;

constexpr std::size_t width = 3;

/// How a program went: its exit code, and what it wrote.
struct Ended {
  int code = 0;
  std::string output;
  std::string error;
};

/// Runs a program in a process of its own, in a folder where the plan is m.plan. ``plans`` counts those it loads, by a
/// byte each in that file. Its device prints while it loads, and fails in its ``failing``-th slot.
Ended run(const Folder& folder, const Words& arguments, const std::string& input = "", unsigned failing = 0) {
  folder.write("stdin", input);
  folder.write("m.plan", std::to_string(width));
  Child child([&] {
    if (chdir(folder.path().c_str()) != 0 || std::freopen("stdin", "r", stdin) == nullptr ||
        std::freopen("stdout", "w", stdout) == nullptr || std::freopen("stderr", "w", stderr) == nullptr) {
      _exit(100);
    }
    const Program program{"stand_in",
                          "nvinfer",
                          "8.6.0",
                          "8.6.1",
                          "12.0",
                          [&](const std::string& name, std::string_view content, bool /*allow_host_code*/) {
                            std::puts("loaded a plan");
                            static_cast<void>(std::fflush(stdout));
                            auto plan = std::make_unique<FakePlan>(name, content);
                            plan->fails_in = failing;
                            return plan;
                          }};
    const int code = infer::run_program(program, arguments);
    static_cast<void>(std::fflush(nullptr));
    _exit(code);
  });
  const int code = child.wait();
  return {code, folder.read("stdout"), folder.read("stderr")};
}

std::string framed(const Words& words) {
  std::string bytes;
  for (const std::string& word : words) {
    bytes += word + '\0';
  }
  return bytes + '\0';
}

/// Raw samples: sample i has the values i, i + 1, i + 2.
std::string samples(std::size_t count) {
  std::vector<float> values;
  for (std::size_t i = 0; i < count * width; ++i) {
    values.push_back(static_cast<float>(i / width + i % width));
  }
  std::string bytes(values.size() * sizeof(float), '\0');
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

/// What the stand-in answers to them: their sum, and the first value.
std::string answers(std::size_t count) {
  std::string text = "sample_id,class,confidence,p_0,p_1\n";
  for (std::size_t i = 0; i < count; ++i) {
    const std::string sum = std::to_string(3 * i + 3);
    text += std::to_string(i) + ",0," + sum + "," + sum + "," + std::to_string(i) + "\n";
  }
  return text;
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

const Words serving{"--serve", "--plan", "m.plan"};

}  // namespace

TEST("a program that runs once writes predictions and report, and prints nothing of its own") {
  const Folder folder;
  folder.write("s.raw", samples(70));
  const Ended ended = run(folder, {"--plan=m.plan", "--raw=s.raw", "--output=p.csv", "--json=r.json"});
  EXPECT_EQ(ended.code, 0);
  EXPECT_EQ(ended.output, "loaded a plan\n");
  EXPECT_EQ(ended.error, "");
  EXPECT_EQ(folder.read("p.csv"), answers(70));
  EXPECT(has(folder.read("r.json"), "\"samples\": 70"));
}

TEST("a program's error is a line behind its name, with the exit code of its kind") {
  const Folder folder;
  folder.write("s.raw", samples(3));
  const Ended refused = run(folder, {"--plan=m.plan", "--raw=none", "--output=p.csv"});
  EXPECT_EQ(refused.code, 2);
  EXPECT_EQ(refused.error, "stand_in: none: cannot be read: No such file or directory\n");
  EXPECT_EQ(refused.output, "");  // samples are read before a plan is loaded
  folder.write("bad.plan", "no number");
  const Ended failed = run(folder, {"--plan=bad.plan", "--raw=s.raw", "--output=p.csv"});
  EXPECT_EQ(failed.code, 3);
  EXPECT_EQ(failed.error, "stand_in: bad.plan: cannot be loaded as a plan; allowed: a number\n");
  const Ended version = run(folder, {"--version"});
  EXPECT_EQ(version.output, "stand_in: TensorRT 8.6.0 (nvinfer; headers 8.6.1), CUDA runtime 12.0\n");
}

TEST("a program that serves loads its plan once, and answers each request as a process of its own would") {
  const Folder folder;
  folder.write("s.raw", samples(70));
  folder.write("few.raw", samples(5));
  folder.write("s.csv", "sample_id,pixel_0,pixel_1,pixel_2\n0,0,1,2\n1,1,2,3\n");
  const Ended ended =
      run(folder, serving,
          framed({"--raw", "s.raw", "--output", "1.csv", "--json", "1.json", "--streams", "3", "--repeat", "2"}) +
              framed({"--raw", "few.raw", "--output", "2.csv", "--json", "2.json", "--batch", "2", "--streams", "1"}) +
              framed({"--csv", "s.csv", "--output", "3.csv"}) + framed({"--raw", "s.raw", "--output", "4.csv"}));
  EXPECT_EQ(ended.code, 0);
  EXPECT_EQ(ended.output, "0 0\n1 0\n2 0\n3 0\n4 0\n");
  EXPECT_EQ(ended.error, "loaded a plan\n");  // what a library prints is kept from the answers
  EXPECT_EQ(folder.read("1.csv"), answers(70));
  EXPECT_EQ(folder.read("2.csv"), answers(5));
  EXPECT_EQ(folder.read("3.csv"), answers(2));
  EXPECT_EQ(folder.read("4.csv"), answers(70));
  const std::string first = folder.read("1.json");
  const std::string second = folder.read("2.json");
  for (const char* part : {"\"samples\": 70", "\"batch\": 32", "\"repeat\": 2", "\"host_to_device\": 3"}) {
    EXPECT(has(first, part));
  }
  for (const char* part : {"\"samples\": 5", "\"batch\": 2,", "\"repeat\": 1", "\"host_to_device\": 3"}) {
    EXPECT(has(second, part));
  }
  for (const std::string& report : {first, second}) {
    EXPECT(has(report, "\"load_seconds\": 0.25") && has(report, "\"device\": \"a stand-in\""));
  }
}

TEST("a request that is refused writes nothing, and the next one runs") {
  const Folder folder;
  folder.write("s.raw", samples(40));
  folder.write("half.raw", samples(2).substr(0, 13));
  const Ended ended = run(folder, serving,
                          framed({"--raw", "s.raw", "--output", "1.csv", "--batch", "33"}) +
                              framed({"--raw", "half.raw", "--output", "2.csv"}) +
                              framed({"--raw", "s.raw", "--output", "3.csv", "--plan", "m.plan"}) +
                              framed({"--raw", "s.raw", "--output", "s.raw"}) + framed({}) +
                              framed({"--raw", "s.raw", "--output", "6.csv"}));
  EXPECT_EQ(ended.code, 0);
  for (const char* part : {"\n1 2 --batch: found 33; allowed by the profile of m.plan", "\n2 2 half.raw",
                           "\n3 2 --plan: found in a request; allowed: on the ",
                           "\n4 2 --output: found the file of --raw", "\n5 2 --output is missing", "\n6 0\n"}) {
    if (!has(ended.output, part)) {
      throw testing::Failure("the answers lack '" + std::string(part) + "': " + ended.output);
    }
  }
  for (const char* name : {"1.csv", "2.csv", "3.csv"}) {
    EXPECT_EQ(folder.read(name), "");
  }
  EXPECT_EQ(folder.read("6.csv"), answers(40));
  EXPECT_EQ(folder.read("s.raw"), samples(40));
}

TEST("a device that fails in a request is told in its answer, which is the last one") {
  const Folder folder;
  folder.write("s.raw", samples(40));
  const std::string good = framed({"--raw", "s.raw", "--output", "1.csv", "--streams", "1"});
  const Ended ended = run(folder, serving, good + framed({"--raw", "s.raw", "--output", "2.csv"}) + good, 3);
  EXPECT_EQ(ended.code, 3);
  EXPECT_EQ(ended.output, "0 0\n1 0\n2 3 the device is lost\n");
  EXPECT_EQ(folder.read("1.csv"), answers(40));
  EXPECT_EQ(folder.read("2.csv"), "");
}

TEST("a program that cannot load the plan that it is to serve ends before it answers anything") {
  const Folder folder;
  folder.write("bad.plan", "no number");
  folder.write("empty.plan", "");
  const Ended bad = run(folder, {"--serve", "--plan=bad.plan"});
  EXPECT_EQ(bad.code, 3);
  EXPECT_EQ(bad.output, "");
  EXPECT(has(bad.error, "stand_in: bad.plan: cannot be loaded as a plan; allowed: a number\n"));
  const Ended empty = run(folder, {"--serve", "--plan=empty.plan"});
  EXPECT_EQ(empty.code, 2);
  EXPECT_EQ(empty.error, "stand_in: empty.plan: the file is empty; allowed: a TensorRT plan\n");
}

TEST("requests that end in the midst of one end the program with an error, the whole ones being answered") {
  const Folder folder;
  folder.write("s.raw", samples(4));
  const std::string good = framed({"--raw", "s.raw", "--output", "1.csv"});
  const Ended ended = run(folder, serving, good + good.substr(0, 9));
  EXPECT_EQ(ended.code, 2);
  EXPECT_EQ(ended.output, "0 0\n1 0\n");
  EXPECT(has(ended.error, "stand_in: standard input: ends within a request, after 9 bytes"));
}
