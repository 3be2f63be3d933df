// Which engines are run.
#include "signature.h"

#include "error.h"
#include "testing.h"

using infer::check_signature;
using infer::DeviceError;
using infer::InputError;
using infer::Profile;
using infer::Signature;
using infer::Tensor;

namespace {

const Tensor input{"x", true, "float32", {-1, 32, 32, 3}, "linear", true};
const Tensor output{"y", false, "float32", {-1, 10}, "linear", true};
const Profile profile{{1, 32, 32, 3}, {128, 32, 32, 3}};

Signature checked(const std::vector<Tensor>& tensors) { return check_signature("m.plan", tensors, profile); }

void refuses(const std::vector<Tensor>& tensors, const std::vector<std::string>& parts) {
  testing::expect_throws<DeviceError>([&] { static_cast<void>(checked(tensors)); }, parts, __FILE__, __LINE__);
}

template <typename Change>
Tensor changed(Tensor tensor, Change change) {
  change(tensor);
  return tensor;
}

}  // namespace

TEST("the width of a sample and the profile's batches are read off the engine") {
  const Signature signature = checked({output, input});
  EXPECT_EQ(signature.input_width, 3072U);
  EXPECT_EQ(signature.output_width, 10U);
  EXPECT_EQ(signature.least_batch, 1U);
  EXPECT_EQ(signature.most_batch, 128U);
  EXPECT_EQ(signature.input.name, "x");
}

TEST("an engine with more or fewer than one input and one output is refused") {
  refuses({input, input, output},
          {"m.plan: the engine has 2 inputs (x, x); allowed: engines with one input and one output"});
  refuses({input, output, output}, {"2 outputs (y, y)"});
  refuses({output}, {"0 inputs (none)"});
}

TEST("a tensor of another dtype, layout, place or shape is refused with what was found and is allowed") {
  refuses({changed(input, [](Tensor& t) { t.dtype = "float16"; }), output},
          {"the input \"x\" is float16; allowed: float32"});
  refuses({input, changed(output, [](Tensor& t) { t.dtype = "int8"; })},
          {"the output \"y\" is int8; allowed: float32"});
  refuses({changed(input, [](Tensor& t) { t.layout = "CHW32"; }), output}, {"\"CHW32\"; allowed: row-major linear"});
  refuses({changed(input, [](Tensor& t) { t.on_device = false; }), output}, {"is a shape tensor in host memory"});
  for (const std::vector<std::int64_t>& shape :
       {std::vector<std::int64_t>{-1}, {}, {-1, -1, 32, 3}, {0, 3}, {-1, 0}, {-2, 3}}) {
    refuses({changed(input, [&](Tensor& t) { t.shape = shape; }), output},
            {"the input \"x\" has the shape " + infer::shape_text(shape) + "; allowed: (batch, ...)"});
  }
  refuses({changed(input, [](Tensor& t) { t.shape = {-1, 1LL << 40, 1LL << 40}; }), output}, {"too large"});
  refuses({input, changed(output, [](Tensor& t) { t.shape = {10, 10}; })}, {"allowed: the batch first in both"});
}

TEST("a profile that does not fit the input is refused") {
  EXPECT_THROWS(DeviceError, static_cast<void>(check_signature("m.plan", {input, output}, {{1, 2}, {3, 4}})),
                "m.plan: the optimization profile has the shapes (1, 2) to (3, 4)");
  EXPECT_THROWS(DeviceError, static_cast<void>(check_signature("m.plan", {input, output}, {{}, {}})), "profile");
}

TEST("a batch outside the profile is refused before anything runs, with its limits") {
  Signature signature = checked({input, output});
  infer::check_batches("m.plan", signature, 128, 1000);
  infer::check_batches("m.plan", signature, 128, 100);
  EXPECT_THROWS(InputError, infer::check_batches("m.plan", signature, 129, 1000),
                "--batch: found 129; allowed by the profile of m.plan: 1 to 128");
  EXPECT_THROWS(InputError, infer::check_batches("m.plan", signature, 500, 100), "--batch: found 500", "1 to 128");
  signature.least_batch = 8;
  infer::check_batches("m.plan", signature, 32, 72);
  EXPECT_THROWS(InputError, infer::check_batches("m.plan", signature, 32, 100),
                "100 samples in batches of 32 leave a last one of 4; allowed by the profile of m.plan: 8 to 128");
}

TEST("an engine of a fixed batch runs that batch alone") {
  Tensor fixed_input = input;
  Tensor fixed_output = output;
  fixed_input.shape[0] = fixed_output.shape[0] = 16;
  const Signature signature = check_signature("m.plan", {fixed_input, fixed_output}, {{}, {}});
  infer::check_batches("m.plan", signature, 16, 64);
  EXPECT_THROWS(InputError, infer::check_batches("m.plan", signature, 32, 64), "found 32", "16 exactly");
  EXPECT_THROWS(InputError, infer::check_batches("m.plan", signature, 16, 65), "leave a last one of 1", "16 exactly");
}

TEST("samples of another width than the engine's are refused with both") {
  const Signature signature = checked({input, output});
  infer::check_width("s.csv", signature, 3072);
  EXPECT_THROWS(InputError, infer::check_width("s.csv", signature, 3071),
                "s.csv:1: column 3073: found 3071 pixel columns", "allowed: 3072", "\"x\" of shape (-1, 32, 32, 3)");
  EXPECT_THROWS(InputError, infer::check_width("s.csv", signature, 4000),
                "s.csv:1: column 3074: found 4000 pixel columns");
}

TEST("TensorRT's version numbers are told as it writes them") {
  EXPECT_EQ(infer::version_text(8600), "8.6.0");
  EXPECT_EQ(infer::version_text(8503), "8.5.3");
  EXPECT_EQ(infer::version_text(100000), "10.0.0");
  EXPECT_EQ(infer::version_text(101601), "10.16.1");
}
