// What CUDA and TensorRT are to a program; the same for every version of TensorRT.
#include <algorithm>
#include <csignal>
#include <memory>
#include <string>
#include <string_view>

#include "cuda.h"
#include "cuda_slot.h"
#include "engine.h"
#include "files.h"
#include "loaded_plan.h"
#include "program.h"
#include "watch.h"

namespace infer {

namespace {

/// A plan on device 0.
class CudaPlan final : public LoadedPlan {
 public:
  CudaPlan(const std::string& plan, std::string_view content, bool allow_host_code) : device_(device_name()) {
    const Watch loading;
    engine_ = load_engine(plan, content, allow_host_code);
    load_seconds_ = loading.seconds();
  }

  const Signature& signature() const noexcept override { return engine_->signature(); }
  Mode single_stream_mode() const noexcept override { return engine_->single_stream_mode(); }
  std::unique_ptr<Slot> slot(std::size_t rows, Mode mode, bool graph) override {
    return std::make_unique<CudaSlot>(*engine_, rows, mode, graph);
  }
  const std::string& device() const noexcept override { return device_; }
  double load_seconds() const noexcept override { return load_seconds_; }

 private:
  std::string device_;
  std::unique_ptr<Engine> engine_;
  double load_seconds_ = 0;
};

Program this_program() {
  return {program_name(),
          library_name(),
          library_version(),
          headers_version(),
          std::to_string(CUDART_VERSION / 1000) + "." + std::to_string(CUDART_VERSION % 1000 / 10),
          [](const std::string& plan, std::string_view content, bool allow_host_code) {
            return std::make_unique<CudaPlan>(plan, content, allow_host_code);
          }};
}

}  // namespace

}  // namespace infer

int main(int argc, char** argv) {
  // Writing beyond a limit on file sizes then fails with a message instead of ending the program.
  static_cast<void>(std::signal(SIGXFSZ, SIG_IGN));
  infer::remove_temporaries_on_signals();
  return infer::run_program(infer::this_program(), {argv + std::min(argc, 1), argv + argc});
}
