#include "signature.h"

#include <algorithm>
#include <limits>

#include "error.h"

namespace infer {

namespace {

std::string names(const std::vector<Tensor>& tensors, bool inputs) {
  std::string result;
  for (const Tensor& tensor : tensors) {
    if (tensor.is_input == inputs) {
      result += (result.empty() ? "" : ", ") + tensor.name;
    }
  }
  return result.empty() ? "none" : result;
}

const Tensor& only(const std::string& plan, const std::vector<Tensor>& tensors, bool inputs) {
  const auto wanted = [inputs](const Tensor& tensor) { return tensor.is_input == inputs; };
  if (const auto count = std::count_if(tensors.begin(), tensors.end(), wanted); count != 1) {
    throw DeviceError(plan + ": the engine has " + std::to_string(count) + (inputs ? " inputs (" : " outputs (") +
                      names(tensors, inputs) + "); allowed: engines with one input and one output");
  }
  return *std::find_if(tensors.begin(), tensors.end(), wanted);
}

/// Counts the values of a sample: everything but the first dimension, which must be the batch.
std::size_t sample_width(const std::string& plan, const Tensor& tensor) {
  const std::string what = plan + ": the " + (tensor.is_input ? "input " : "output ") + quoted(tensor.name) + " ";
  if (!tensor.on_device) {
    throw DeviceError(what + "is a shape tensor in host memory; allowed: tensors on the device");
  }
  if (tensor.dtype != "float32") {
    throw DeviceError(what + "is " + tensor.dtype + "; allowed: float32");
  }
  if (tensor.layout != "linear") {
    throw DeviceError(what + "has the layout " + quoted(tensor.layout) + "; allowed: row-major linear");
  }
  const bool whole = tensor.shape.size() >= 2 && (tensor.shape[0] == -1 || tensor.shape[0] > 0) &&
                     std::all_of(tensor.shape.begin() + 1, tensor.shape.end(), [](std::int64_t d) { return d > 0; });
  if (!whole) {
    throw DeviceError(what + "has the shape " + shape_text(tensor.shape) +
                      "; allowed: (batch, ...) where only the batch may be dynamic (-1)");
  }
  std::size_t width = 1;
  for (std::size_t i = 1; i < tensor.shape.size(); ++i) {
    const auto size = static_cast<std::size_t>(tensor.shape[i]);
    if (width > (std::numeric_limits<std::size_t>::max() >> 32U) / size) {
      throw DeviceError(what + "has the shape " + shape_text(tensor.shape) + ", which is too large");
    }
    width *= size;
  }
  return width;
}

std::string batches_text(const std::string& plan, const Signature& signature) {
  return "allowed by the profile of " + plan + ": " + std::to_string(signature.least_batch) +
         (signature.least_batch == signature.most_batch ? " exactly" : " to " + std::to_string(signature.most_batch));
}

}  // namespace

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string result = "(";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    result += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  }
  return result + ")";
}

const Tensor& only_input(const std::string& plan, const std::vector<Tensor>& tensors) {
  const Tensor& input = only(plan, tensors, true);
  static_cast<void>(only(plan, tensors, false));
  return input;
}

Signature check_signature(const std::string& plan, const std::vector<Tensor>& tensors, const Profile& profile) {
  Signature signature;
  signature.input = only(plan, tensors, true);
  signature.output = only(plan, tensors, false);
  signature.input_width = sample_width(plan, signature.input);
  signature.output_width = sample_width(plan, signature.output);
  const std::int64_t fixed = signature.input.shape[0];
  if (signature.output.shape[0] != fixed) {
    throw DeviceError(plan + ": the input's shape is " + shape_text(signature.input.shape) + " and the output's " +
                      shape_text(signature.output.shape) + "; allowed: the batch first in both");
  }
  if (fixed == -1) {
    const std::size_t rank = signature.input.shape.size();
    if (profile.least.size() != rank || profile.most.size() != rank || profile.least[0] < 0 ||
        profile.most[0] < std::max<std::int64_t>(profile.least[0], 1)) {
      throw DeviceError(plan + ": the optimization profile has the shapes " + shape_text(profile.least) + " to " +
                        shape_text(profile.most) + " for an input of shape " + shape_text(signature.input.shape));
    }
    signature.least_batch = static_cast<std::size_t>(std::max<std::int64_t>(profile.least[0], 1));
    signature.most_batch = static_cast<std::size_t>(profile.most[0]);
  } else {
    signature.least_batch = signature.most_batch = static_cast<std::size_t>(fixed);
  }
  return signature;
}

void check_batches(const std::string& plan, const Signature& signature, std::size_t batch, std::size_t count) {
  // Of fewer samples than a batch there is no full one: only what it may not be is told.
  if (batch > signature.most_batch || (count >= batch && batch < signature.least_batch)) {
    throw InputError("--batch: found " + std::to_string(batch) + "; " + batches_text(plan, signature));
  }
  const std::size_t rest = count % batch;
  if (rest > 0 && (rest < signature.least_batch || rest > signature.most_batch)) {
    throw InputError("--batch: " + std::to_string(count) + " samples in batches of " + std::to_string(batch) +
                     " leave a last one of " + std::to_string(rest) + "; " + batches_text(plan, signature));
  }
}

void check_width(const std::string& file, const Signature& signature, std::size_t width) {
  if (width != signature.input_width) {
    throw InputError(file + ":1: column " + std::to_string(std::min(width, signature.input_width) + 2) + ": found " +
                     std::to_string(width) + " pixel columns; allowed: " + std::to_string(signature.input_width) +
                     ", for the engine's input " + quoted(signature.input.name) + " of shape " +
                     shape_text(signature.input.shape));
  }
}

std::string version_text(int number) {
  // Up to 9 the number is major * 1000 + minor * 100 + patch; from 10 on, major * 10000 + minor * 100 + patch.
  const int scale = number >= 100000 ? 10000 : 1000;
  return std::to_string(number / scale) + "." + std::to_string(number % scale / 100) + "." +
         std::to_string(number % 100);
}

}  // namespace infer
