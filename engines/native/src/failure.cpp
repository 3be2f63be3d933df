#include <algorithm>
#include <new>

#include "error.h"

namespace infer {

Failure failure_handled() {
  Failure failure;
  try {
    throw;
  } catch (const InputError& error) {
    failure = {2, error.what()};
  } catch (const DeviceError& error) {
    failure = {3, error.what()};
  } catch (const std::bad_alloc&) {
    failure = {1, "out of memory on this machine"};
  } catch (const std::exception& error) {
    failure = {1, error.what()};
  }
  std::replace_if(failure.message.begin(), failure.message.end(), [](char c) { return c == '\n' || c == '\r'; }, ' ');
  return failure;
}

}  // namespace infer
