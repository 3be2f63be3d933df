// The errors of these programs; each message names what was found, what is allowed and what to do.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace infer {

/// Wrong options, or files that cannot be read, used or written. Exit code 2.
class InputError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// CUDA or TensorRT failed, or the engine is not one that these programs run. Exit code 3.
class DeviceError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// What an error ends a program with, or a request.
struct Failure {
  int code = 0;
  std::string message;  ///< one line, whatever TensorRT's own messages hold
};

/// Tells what the exception that is being handled means; called in a handler alone.
Failure failure_handled();

/// Quotes what was found in a file or an option for a message: printable, and at most 40 characters of it.
inline std::string quoted(std::string_view text) {
  constexpr std::size_t most = 40;
  constexpr char digits[] = "0123456789abcdef";
  std::string result = "\"";
  for (const char c : text.substr(0, most)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f && c != '"' && c != '\\') {
      result += c;
    } else {
      result += {'\\', 'x', digits[byte >> 4U], digits[byte & 15U]};
    }
  }
  return result + (text.size() > most ? "...\"" : "\"");
}

}  // namespace infer
