// Writing predictions: complete or not at all, and exact.
#include "predictions.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <charconv>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <limits>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "child.h"
#include "error.h"
#include "temporary.h"
#include "testing.h"

using infer::AtomicFile;
using infer::InputError;
using tests::Child;
using tests::Folder;

namespace {

void write(const std::string& path, const std::vector<std::int64_t>& ids, const std::vector<float>& values) {
  AtomicFile file(path);
  infer::write_predictions(file, ids, values.data(), values.size() / ids.size());
  file.commit();
}

/// Limits the size of files while it lives.
class FileLimit {
 public:
  explicit FileLimit(rlim_t bytes) {
    static_cast<void>(getrlimit(RLIMIT_FSIZE, &before_));
    static_cast<void>(std::signal(SIGXFSZ, SIG_IGN));
    const rlimit limit{bytes, before_.rlim_max};
    static_cast<void>(setrlimit(RLIMIT_FSIZE, &limit));
  }
  ~FileLimit() { static_cast<void>(setrlimit(RLIMIT_FSIZE, &before_)); }
  FileLimit(const FileLimit&) = delete;
  FileLimit& operator=(const FileLimit&) = delete;

 private:
  rlimit before_{};
};

}  // namespace

TEST("a row has id, class, confidence and every probability with nine significant digits") {
  const Folder folder;
  write(folder / "p.csv", {7, 2}, {0.1F, 0.7F, 0.2F, 1, 0, 1e-30F});
  EXPECT_EQ(folder.read("p.csv"),
            "sample_id,class,confidence,p_0,p_1,p_2\n"
            "7,1,0.699999988,0.100000001,0.699999988,0.200000003\n"
            "2,0,1,1,0,1e-30\n");
}

TEST("of equal values the first is the class") {
  const Folder folder;
  write(folder / "p.csv", {0}, {0.25F, 0.375F, 0.375F});
  EXPECT_EQ(folder.read("p.csv"), "sample_id,class,confidence,p_0,p_1,p_2\n0,1,0.375,0.25,0.375,0.375\n");
}

TEST("random probabilities are read back bit by bit, every row with its id") {
  const Folder folder;
  std::mt19937 random(22);
  for (int round = 0; round < 20; ++round) {
    const std::size_t width = 1 + random() % 12;
    const std::size_t count = 1 + random() % 300;
    std::vector<std::int64_t> ids;
    std::vector<float> values;
    for (std::size_t i = 0; i < count; ++i) {
      ids.push_back(static_cast<std::int64_t>(random()) << (random() % 31));
      for (std::size_t j = 0; j < width; ++j) {
        values.push_back(std::ldexp(static_cast<float>(random()), -static_cast<int>(random() % 120)));
      }
    }
    write(folder / "p.csv", ids, values);
    std::istringstream file(folder.read("p.csv"));
    std::string line;
    std::getline(file, line);
    for (std::size_t i = 0; i < count; ++i) {
      EXPECT(static_cast<bool>(std::getline(file, line)));
      std::istringstream row(line);
      std::string cell;
      std::getline(row, cell, ',');
      EXPECT_EQ(cell, std::to_string(ids[i]));
      std::getline(row, cell, ',');
      const auto best = static_cast<std::size_t>(std::stoul(cell));
      std::getline(row, cell, ',');
      EXPECT_EQ(std::stof(cell), values[i * width + best]);
      for (std::size_t j = 0; j < width; ++j) {
        std::getline(row, cell, ',');
        float value = 0;
        static_cast<void>(std::from_chars(cell.data(), cell.data() + cell.size(), value));
        EXPECT_EQ(value, values[i * width + j]);
        EXPECT(value <= values[i * width + best]);
      }
      EXPECT(row.eof());
    }
    EXPECT(!std::getline(file, line));
  }
}

TEST("a file that was not finished leaves nothing behind, and what was there before stays") {
  const Folder folder;
  folder.write("p.csv", "before");
  {
    AtomicFile file(folder / "p.csv");
    file.write("half");
    EXPECT_EQ(folder.files(), 2U);
  }
  EXPECT_EQ(folder.read("p.csv"), "before");
  EXPECT_EQ(folder.files(), 1U);
}

TEST("a finished file replaces the one before and can be read by others") {
  const Folder folder;
  folder.write("p.csv", "before");
  const mode_t mask = umask(022);
  write(folder / "p.csv", {0}, {1});
  umask(mask);
  EXPECT_EQ(folder.read("p.csv"), "sample_id,class,confidence,p_0\n0,0,1,1\n");
  EXPECT_EQ(folder.files(), 1U);
  EXPECT(std::filesystem::status(folder / "p.csv").permissions() == std::filesystem::perms(0644));
}

TEST("a full disk is an error, and leaves nothing behind") {
  const Folder folder;
  const std::vector<std::int64_t> ids(100000, 1);
  const std::vector<float> values(1000000, 0.5F);
  {
    const FileLimit limit(1U << 20U);
    EXPECT_THROWS(InputError, write(folder / "p.csv", ids, values), "p.csv: writing failed: File too large",
                  "nothing was written");
  }
  EXPECT_EQ(folder.files(), 0U);
}

TEST("a place that cannot be written is refused before anything is run") {
  const Folder folder;
  EXPECT_THROWS(InputError, AtomicFile(folder / "none/p.csv"), "none/p.csv: cannot be written: No such file");
  EXPECT_THROWS(InputError, AtomicFile(folder.path()), "is no regular file; allowed: a new file, or a regular one");
  EXPECT_THROWS(InputError, AtomicFile("/dev/null"), "/dev/null: is no regular file");
  int ends[2];
  EXPECT_EQ(pipe(ends), 0);
  const std::string link = "/proc/self/fd/" + std::to_string(ends[1]);  // as /dev/stdout is one
  EXPECT_THROWS(InputError, const AtomicFile file(link), link + ": is no regular file");
  static_cast<void>(close(ends[0]));
  static_cast<void>(close(ends[1]));
}

TEST("a symbolic link stays one, and what it points to is replaced, or made where it is not there") {
  const Folder folder;
  std::filesystem::create_directory(folder / "sub");
  folder.write("real.csv", "before");
  // A link to a file, to none, and to another link in a folder of its own, from where that one counts.
  const std::vector<std::vector<std::string>> chains{
      {"link.csv", "real.csv"}, {"dangling.csv", "new.csv"}, {"first.csv", "sub/second.csv", "../third.csv"}};
  for (const std::vector<std::string>& names : chains) {
    for (std::size_t i = 0; i + 1 < names.size(); ++i) {
      std::filesystem::create_symlink(names[i + 1], folder / names[i]);
    }
    write(folder / names[0], {0}, {1});
    for (std::size_t i = 0; i + 1 < names.size(); ++i) {
      EXPECT(std::filesystem::is_symlink(folder / names[i]));
    }
    EXPECT_EQ(folder.read(names[0]), "sample_id,class,confidence,p_0\n0,0,1,1\n");
  }
  for (const char* name : {"real.csv", "new.csv", "third.csv"}) {
    EXPECT(std::filesystem::is_regular_file(std::filesystem::symlink_status(folder / name)));
  }
  std::filesystem::create_symlink(folder / "absolute.csv", folder / "sub/absolute.csv");
  write(folder / "sub/absolute.csv", {0}, {1});
  EXPECT(std::filesystem::exists(folder / "absolute.csv"));
}

TEST("links in a circle are refused") {
  const Folder folder;
  std::filesystem::create_symlink("b.csv", folder / "a.csv");
  std::filesystem::create_symlink("a.csv", folder / "b.csv");
  EXPECT_THROWS(InputError, AtomicFile(folder / "a.csv"),
                "a.csv: cannot be followed: Too many levels of symbolic links; allowed: a file, or a link to one");
}

TEST("a file that may not be written is refused, not replaced") {
  const Folder folder;
  folder.write("p.csv", "before");
  std::filesystem::permissions(folder.path(), std::filesystem::perms::all);
  std::filesystem::permissions(folder / "p.csv", std::filesystem::perms(0444));
  Child child([&] {
    constexpr uid_t nobody = 65534;
    if (geteuid() == 0 && setresuid(nobody, nobody, nobody) != 0) {
      std::fputs("not tested: root, which may write to any file, may not become nobody here\n", stderr);
      return;
    }
    EXPECT_THROWS(InputError, AtomicFile(folder / "p.csv"), "p.csv: is there and cannot be written: Permission denied",
                  "allowed: a new file, or a writable one to replace (chmod u+w)");
  });
  EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(folder.read("p.csv"), "before");
  EXPECT_EQ(folder.files(), 1U);
}

TEST("a signal that ends the program leaves nothing half written behind, whatever thread it reaches") {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    for (const bool other_thread : {false, true}) {
      const Folder folder;
      folder.write("p.csv", "before");
      Child child([&] {
        static_cast<void>(std::signal(signal, SIG_DFL));  // whoever runs the tests may ignore it
        infer::remove_temporaries_on_signals();
        for (int i = 0; i < 10; ++i) {  // what is done with takes no place from what is not
          write(folder / "done.csv", {0}, {1});
          const AtomicFile dropped(folder / "dropped.csv");
        }
        AtomicFile output(folder / "p.csv");
        const AtomicFile json(folder / "r.json");
        output.write("half");
        EXPECT_EQ(folder.files(), 4U);
        if (other_thread) {
          std::thread([signal] { static_cast<void>(raise(signal)); }).join();
        } else {
          static_cast<void>(raise(signal));
        }
      });
      EXPECT_EQ(child.wait(), -signal);
      EXPECT_EQ(folder.read("p.csv"), "before");
      EXPECT_EQ(folder.read("done.csv"), "sample_id,class,confidence,p_0\n0,0,1,1\n");
      EXPECT_EQ(folder.files(), 2U);
    }
  }
}

TEST("a signal that is ignored, as nohup has it, stays ignored") {
  const Folder folder;
  Child child([&] {
    static_cast<void>(std::signal(SIGHUP, SIG_IGN));
    infer::remove_temporaries_on_signals();
    AtomicFile file(folder / "p.csv");
    file.write("whole");
    static_cast<void>(raise(SIGHUP));
    file.commit();
  });
  EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(folder.read("p.csv"), "whole");
}

TEST("outputs that are not finite are refused with sample and position") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> values{1, 2, 3, nan, nan, 6};
  EXPECT_THROWS(infer::DeviceError, infer::check_finite("m.plan", {10, 20, 30}, values.data(), 2),
                "m.plan: the engine put out 2 of 6 values that are not finite", "the first nan as p_1 of sample_id 20");
  infer::check_finite("m.plan", {10}, values.data(), 3);
}
