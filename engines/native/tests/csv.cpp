// Reading samples: strict, and never one dropped.
#include <unistd.h>

#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <random>
#include <string>

#include "error.h"
#include "files.h"
#include "samples.h"
#include "temporary.h"
#include "testing.h"

using infer::InputError;
using infer::parse_csv;
using infer::Samples;
using tests::Folder;

namespace {

const std::string header = "sample_id,pixel_0,pixel_1,pixel_2\n";

void refuses(const std::string& text, const std::vector<std::string>& parts) {
  testing::expect_throws<InputError>([&] { static_cast<void>(parse_csv("s.csv", text)); }, parts, text.c_str(), 0);
}

std::uint32_t bits(float value) {
  std::uint32_t result = 0;
  std::memcpy(&result, &value, sizeof(result));
  return result;
}

}  // namespace

TEST("samples, ids and width are those of the file, in its order") {
  const Samples samples = parse_csv("s.csv", header + "7,0.5,-1,2.5e-3\n3,1,2,3\n");
  EXPECT_EQ(samples.count(), 2U);
  EXPECT_EQ(samples.width, 3U);
  EXPECT_EQ(samples.ids[0], 7);
  EXPECT_EQ(samples.ids[1], 3);
  const std::array<float, 6> expected{0.5F, -1.0F, 2.5e-3F, 1, 2, 3};
  EXPECT_EQ(samples.values.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(samples.values.data()[i], expected[i]);
  }
}

TEST("line ends of either kind, a byte order mark and a last line without an end are all read") {
  for (const std::string& text : {header + "0,1,2,3\n1,4,5,6", header + "0,1,2,3\n1,4,5,6\n",
                                  std::string("sample_id,pixel_0,pixel_1,pixel_2\r\n0,1,2,3\r\n1,4,5,6\r\n"),
                                  std::string("sample_id,pixel_0,pixel_1,pixel_2\r\n0,1,2,3\r\n1,4,5,6\r"),
                                  "\xef\xbb\xbf" + header + "0,1,2,3\n1,4,5,6\n"}) {
    const Samples samples = parse_csv("s.csv", text);
    EXPECT_EQ(samples.count(), 2U);
    EXPECT_EQ(samples.values.data()[5], 6.0F);
  }
}

TEST("values are rounded to the nearest float32, tiny ones to 0 or a subnormal") {
  const Samples samples = parse_csv(
      "s.csv", "sample_id,pixel_0,pixel_1,pixel_2,pixel_3,pixel_4\n0,0.1,16777217,1e-50,1e-45,3.4028235e38\n");
  EXPECT_EQ(samples.values.data()[0], 0.1F);
  EXPECT_EQ(samples.values.data()[1], 16777216.0F);
  EXPECT_EQ(samples.values.data()[2], 0.0F);
  EXPECT_EQ(samples.values.data()[3], std::numeric_limits<float>::denorm_min());
  EXPECT_EQ(samples.values.data()[4], std::numeric_limits<float>::max());
}

TEST("the largest values are those below half way from the largest float32 to infinity") {
  const Samples samples = parse_csv("s.csv", "sample_id,pixel_0\n0,340282356779733661637539395458142568447.9\n");
  EXPECT_EQ(samples.values.data()[0], std::numeric_limits<float>::max());
  refuses("sample_id,pixel_0\n0,340282356779733661637539395458142568448\n", {"s.csv:2: column 2", "float32"});
}

TEST("a cell that is no finite number is refused with file, line, column and what was found") {
  for (const std::string cell : {"abc", "nan", "inf", "-inf", "NaN", "1,5", "1.5.2", "0x10", "1e", "1 ", " 1", "+1",
                                 "--1", "\"1\"", "1_000", "1f", "-", "."}) {
    if (cell.find(',') != std::string::npos) {
      continue;  // a decimal comma makes one column more, which the next test looks at
    }
    std::string shown = cell;
    if (cell == "\"1\"") {
      shown = "\\x221\\x22";
    }
    refuses(header + "0,1,2,3\n1,4," + cell + ",6\n",
            {"s.csv:3: column 3: (pixel_1) found \"" + shown, "allowed: a finite"});
  }
  refuses(header + "0,1,2,3 \n", {"s.csv:2: column 4: (pixel_2) found \"3 \""});
  refuses(header + "0,1,,3\n", {"s.csv:2: column 3: (pixel_1) is empty"});
  refuses(header + std::string("0,1,2\0,3\n", 9), {"s.csv:2: column 3: (pixel_1) found \"2\\x00\""});
}

TEST("a value too large for float32 is refused") {
  refuses(header + "0,1,2,3.5e38\n", {"s.csv:2: column 4: (pixel_2) found \"3.5e38\", which is too large for float32"});
  refuses(header + "0,-1e999,2,3\n", {"s.csv:2: column 2: (pixel_0) found \"-1e999\", which is too large"});
}

TEST("a row with too few or too many columns is refused with both widths") {
  refuses(header + "0,1,2,3\n1,4,5\n", {"s.csv:3: column 4: found 3 columns; allowed: 4 columns"});
  refuses(header + "0,1,2,3,4\n", {"s.csv:2: column 5: found 5 columns; allowed: 4 columns"});
  refuses(header + "0,1,2,3,\n", {"s.csv:2: column 5: found 5 columns"});
  refuses(header + "0\n", {"s.csv:2: column 2: found 1 columns"});
  refuses(header + "0,1,2,3\n1,4,5,6\n2", {"s.csv:4: column 2: found 1 columns"});
}

TEST("rows as short as can be leave no room unaccounted for, even where the last one is cut off") {
  for (std::size_t rows = 0; rows < 20; ++rows) {
    std::string text = header;
    for (std::size_t row = 0; row < rows; ++row) {
      text += std::to_string(row % 10) + ",1,1,1\n";
    }
    refuses(text + "0,1,1", {"s.csv:" + std::to_string(rows + 2) + ": column 4: found 3 columns"});
  }
}

TEST("an empty line is refused wherever it is") {
  refuses(header + "0,1,2,3\n\n1,4,5,6\n", {"s.csv:3: column 1: the line is empty"});
  refuses(header + "0,1,2,3\n\r\n1,4,5,6\n", {"s.csv:3: column 1: the line is empty"});
  refuses(header + "0,1,2,3\n\n", {"s.csv:3: column 1: the line is empty"});
  refuses(header + "\n\n\n\n\n", {"s.csv:2: column 1: the line is empty"});
}

TEST("a sample id that is no whole number from 0 on is refused") {
  for (const std::string id : {"-1", "-0", "1.0", "x", "1 ", " 1", "9223372036854775808", "1e3"}) {
    refuses(header + id + ",1,2,3\n",
            {"s.csv:2: column 1: (sample_id) found \"" + id, "allowed: a whole number from 0"});
  }
  refuses(header + ",1,2,3\n", {"s.csv:2: column 1: (sample_id) is empty"});
  EXPECT_EQ(parse_csv("s.csv", header + "9223372036854775807,1,2,3\n").ids[0],
            std::numeric_limits<std::int64_t>::max());
}

TEST("a sample id that comes twice is refused, naming both lines") {
  refuses(header + "5,1,2,3\n1,1,2,3\n5,1,2,3\n1,1,2,3\n",
          {"s.csv:4: column 1: (sample_id) found 5, which line 2 has already"});
  refuses(header + "5,1,2,3\n05,1,2,3\n", {"s.csv:3: column 1: (sample_id) found 5, which line 2 has already"});
}

TEST("a header of other names is refused at the column where it differs") {
  refuses("id,pixel_0\n0,1\n", {"s.csv:1: column 1: found \"id\" where sample_id belongs"});
  refuses("sample_id,pixel_1\n0,1\n", {"s.csv:1: column 2: found \"pixel_1\" where pixel_0 belongs"});
  refuses("sample_id,pixel_0,pixel_0\n0,1,1\n", {"s.csv:1: column 3: found \"pixel_0\" where pixel_1 belongs"});
  refuses("sample_id,pixel_0,\n0,1,1\n", {"s.csv:1: column 3: found \"\" where pixel_1 belongs"});
  refuses("sample_id\n0\n", {"s.csv:1: column 2: found no pixel column"});
  refuses("0,1,2,3\n", {"s.csv:1: column 1: found \"0\" where sample_id belongs"});
  refuses("\xff\xfes\0a\0", {"s.csv:1: column 1: found \"\\xff\\xfe"});
}

TEST("a file without samples is refused") {
  refuses("", {"s.csv:1: column 1: the file is empty"});
  refuses("\xef\xbb\xbf", {"s.csv:1: column 1: the file is empty"});
  refuses("\n", {"s.csv:1: column 1: found \"\" where sample_id belongs"});
  refuses(header, {"s.csv:2: column 1: found no samples after the header"});
}

TEST("a missing file, a folder and an unreadable name are refused by name") {
  const Folder folder;
  EXPECT_THROWS(InputError, static_cast<void>(infer::read_csv(folder / "none.csv")),
                "none.csv: cannot be read: No such file");
  EXPECT_THROWS(InputError, static_cast<void>(infer::read_csv(folder.path())),
                "is a directory; allowed: a regular file");
  EXPECT_THROWS(InputError, static_cast<void>(infer::read_csv("/dev/null")), "/dev/null: is no regular file");
}

TEST("random float32 samples are read back bit by bit, however they are written") {
  std::mt19937 random(20);
  for (int round = 0; round < 60; ++round) {
    const std::size_t width = 1 + random() % 50;
    const std::size_t count = 1 + random() % 40;
    const bool crlf = random() % 2 == 0;
    std::string text = "sample_id";
    for (std::size_t i = 0; i < width; ++i) {
      text += ",pixel_" + std::to_string(i);
    }
    std::vector<float> values;
    std::vector<std::int64_t> ids;
    for (std::size_t row = 0; row < count; ++row) {
      ids.push_back(static_cast<std::int64_t>(row * 1000 + random() % 1000));
    }
    std::shuffle(ids.begin(), ids.end(), random);
    for (std::size_t row = 0; row < count; ++row) {
      text += (crlf ? "\r\n" : "\n") + std::to_string(ids[row]);
      for (std::size_t i = 0; i < width; ++i) {
        float value = 0;
        do {
          const auto pattern = static_cast<std::uint32_t>(random());
          std::memcpy(&value, &pattern, sizeof(value));
        } while (!std::isfinite(value));
        values.push_back(value);
        char number[64];
        const auto kind = random() % 3;
        const auto result = kind == 0   ? std::to_chars(number, number + 64, value)
                            : kind == 1 ? std::to_chars(number, number + 64, value, std::chars_format::general, 9)
                                        : std::to_chars(number, number + 64, value, std::chars_format::scientific, 20);
        text += ',' + std::string(number, result.ptr);
      }
    }
    text += random() % 2 == 0 ? "\n" : "";
    const Samples samples = parse_csv("s.csv", text);
    EXPECT_EQ(samples.count(), count);
    EXPECT(samples.ids == ids);
    for (std::size_t i = 0; i < values.size(); ++i) {
      EXPECT_EQ(bits(samples.values.data()[i]), bits(values[i]));
    }
  }
}

TEST("a file damaged at random is read as it stands or refused, and never loses a row") {
  std::mt19937 random(21);
  std::string good = header;
  for (int row = 0; row < 30; ++row) {
    good += std::to_string(row) + ",0.25,-1e-3,17\r\n";
  }
  const std::string signs = std::string("0123456789,.\n\r-+e \"xn\xff") + std::string(1, 0);
  int refused = 0;
  for (int round = 0; round < 4000; ++round) {
    std::string text = good;
    for (auto edits = 1 + random() % 3; edits > 0; --edits) {
      const std::size_t at = random() % text.size();
      switch (random() % 3) {
        case 0:
          text[at] = signs[random() % signs.size()];
          break;
        case 1:
          text.erase(at, 1 + random() % 5);
          break;
        default:
          text.insert(at, 1, signs[random() % signs.size()]);
      }
    }
    try {
      const Samples samples = parse_csv("s.csv", text);
      const auto ends = static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
      EXPECT_EQ(samples.count(), ends - (text.back() == '\n' ? 1 : 0));
      EXPECT_EQ(samples.values.size(), samples.count() * samples.width);
    } catch (const InputError& error) {
      ++refused;
      EXPECT(std::string(error.what()).find(": column ") != std::string::npos);
    }
  }
  EXPECT(refused > 1000);
}

TEST("raw samples are the file's float32 values, numbered from 0 on") {
  const Folder folder;
  const std::vector<float> values{1, 2.5F, -3, 4, 5, 6};
  folder.write("s.raw", {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)});
  const infer::RawFile raw = infer::read_raw(folder / "s.raw");
  const Samples samples = infer::raw_samples("s.raw", raw, 3);
  EXPECT_EQ(samples.count(), 2U);
  EXPECT_EQ(samples.ids[1], 1);
  EXPECT(std::equal(values.begin(), values.end(), samples.values.data()));
  EXPECT_THROWS(InputError, static_cast<void>(infer::raw_samples("s.raw", raw, 4)),
                "s.raw: found 24 bytes; allowed: a multiple of 16");
}

TEST("raw values that are not finite are refused with sample and position") {
  const Folder folder;
  const std::vector<float> values{1, 2, 3, std::numeric_limits<float>::quiet_NaN()};
  folder.write("s.raw", {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)});
  EXPECT_THROWS(InputError, static_cast<void>(infer::raw_samples("s.raw", infer::read_raw(folder / "s.raw"), 2)),
                "s.raw: value 1 of sample 1 is nan");
}

TEST("a NumPy file given as raw values is recognised") {
  const Folder folder;
  folder.write("s.npy", std::string("\x93NUMPY\x01\x00v\x00", 10));
  folder.write("s.npz", std::string("PK\x03\x04rest", 8));
  folder.write("empty.raw", "");
  EXPECT_THROWS(InputError, static_cast<void>(infer::read_raw(folder / "s.npy")), "this is a NumPy file (.npy)",
                "tofile");
  EXPECT_THROWS(InputError, static_cast<void>(infer::read_raw(folder / "s.npz")), "this is a NumPy file (.npz)");
  EXPECT_THROWS(InputError, static_cast<void>(infer::read_raw(folder / "empty.raw")), "the file is empty");
}

TEST("a file that changes while it is read is refused") {
  const Folder folder;
  folder.write("s.csv", header + "0,1,2,3\n");
  const infer::MappedFile file(folder / "s.csv");
  file.check_unchanged();
  folder.write("s.csv", header + "0,1,2,3\n1,1,2,3\n");
  EXPECT_THROWS(InputError, file.check_unchanged(), "s.csv: changed while it was read; run again");
}
