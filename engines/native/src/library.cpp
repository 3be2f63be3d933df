// Which TensorRT this program was built with, and which one runs.
#include <NvInferRuntime.h>

#include "engine.h"

#define INFER_TEXT_OF(value) #value
#define INFER_TEXT(value) INFER_TEXT_OF(value)

namespace infer {

const char* program_name() noexcept { return "trt" INFER_TEXT(NV_TENSORRT_MAJOR) "_infer"; }

const char* library_name() noexcept { return TENSORRT_LIBRARY; }

std::string library_version() { return version_text(getInferLibVersion()); }

std::string headers_version() { return version_text(static_cast<int>(NV_TENSORRT_VERSION)); }

}  // namespace infer
