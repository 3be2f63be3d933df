// What an engine takes and gives, and whether these programs run it. Knows neither CUDA nor TensorRT.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace infer {

/// An input or output as an engine describes it.
struct Tensor {
  std::string name;
  bool is_input = false;
  std::string dtype;                ///< NumPy's name of it, such as float32
  std::vector<std::int64_t> shape;  ///< -1 for what is given at run time
  std::string layout;               ///< "linear" for plain row-major
  bool on_device = true;            ///< false for shape tensors, which live in host memory
};

/// Smallest and largest shape that the optimization profile allows for the input.
struct Profile {
  std::vector<std::int64_t> least;
  std::vector<std::int64_t> most;
};

/// The one input and the one output, each ``width`` values a sample, and the batches that the profile allows.
struct Signature {
  Tensor input;
  Tensor output;
  std::size_t input_width = 0;
  std::size_t output_width = 0;
  std::size_t least_batch = 0;
  std::size_t most_batch = 0;
};

/// Gives a shape as text: (-1, 32, 32, 3).
std::string shape_text(const std::vector<std::int64_t>& shape);

/// Finds the one input. Throws DeviceError where there are more inputs or outputs than one.
const Tensor& only_input(const std::string& plan, const std::vector<Tensor>& tensors);

/// Checks names, dtypes, shapes and layouts. Throws DeviceError, naming what was found and what is allowed.
Signature check_signature(const std::string& plan, const std::vector<Tensor>& tensors, const Profile& profile);

/// Throws InputError where ``count`` samples in batches of ``batch`` make one that the profile does not allow.
void check_batches(const std::string& plan, const Signature& signature, std::size_t batch, std::size_t count);

/// Throws InputError where samples have another width than the engine's input.
void check_width(const std::string& file, const Signature& signature, std::size_t width);

/// Gives the version behind getInferLibVersion()'s number: 8600 is 8.6.0, 101601 is 10.16.1.
std::string version_text(int number);

}  // namespace infer
