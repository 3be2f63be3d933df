// TensorRT 10: tensors by name, enqueueV3.
#include <NvInferRuntime.h>

#include <memory>
#include <utility>

#include "cuda.h"
#include "engine.h"
#include "tensorrt_common.h"

static_assert(NV_TENSORRT_MAJOR == 10, "trt10_infer is built with the headers of TensorRT 10");

namespace infer {

namespace {

class Trt10Execution final : public Execution {
 public:
  Trt10Execution(std::string plan, nvinfer1::ICudaEngine& engine, const Signature& signature, float* input,
                 float* output, cudaStream_t stream)
      : plan_(std::move(plan)),
        input_(signature.input.name),
        output_(signature.output.name),
        shape_(engine.getTensorShape(input_.c_str())),
        stream_(stream) {
    logger().forget();
    context_.reset(engine.createExecutionContext());
    require(context_ != nullptr, plan_ + ": TensorRT gives no execution context (fewer --streams need less memory)");
    if (context_->getOptimizationProfile() != 0) {
      require(context_->setOptimizationProfileAsync(0, stream_), plan_ + ": TensorRT refuses optimization profile 0");
      INFER_CUDA(cudaStreamSynchronize(stream_));
    }
    require(context_->setTensorAddress(input_.c_str(), input), plan_ + ": TensorRT refuses the input's address");
    require(context_->setTensorAddress(output_.c_str(), output), plan_ + ": TensorRT refuses the output's address");
  }

  void set_rows(std::size_t rows) override {
    if (rows == rows_) {
      return;
    }
    logger().forget();
    shape_.d[0] = static_cast<std::int64_t>(rows);
    require(context_->setInputShape(input_.c_str(), shape_),
            plan_ + ": TensorRT refuses the input shape " + shape_text(shape_of(shape_)));
    const std::vector<std::int64_t> found = shape_of(context_->getTensorShape(output_.c_str()));
    require(!found.empty() && found[0] == static_cast<std::int64_t>(rows),
            plan_ + ": the output's shape is " + shape_text(found) + " for a batch of " + std::to_string(rows));
    rows_ = rows;
  }

  void run() override {
    logger().forget();
    require(context_->enqueueV3(stream_), plan_ + ": TensorRT did not take a batch of " + std::to_string(rows_));
  }

 private:
  std::string plan_;
  std::string input_;
  std::string output_;
  nvinfer1::Dims shape_;
  cudaStream_t stream_;
  std::size_t rows_ = 0;
  std::unique_ptr<nvinfer1::IExecutionContext> context_;
};

class Trt10Engine final : public Engine {
 public:
  Trt10Engine(std::string plan, std::string_view content, bool allow_host_code)
      : plan_(std::move(plan)), loaded_(deserialize(plan_, content, allow_host_code)), engine_(*loaded_.engine) {
    std::vector<Tensor> tensors;
    for (std::int32_t i = 0; i < engine_.getNbIOTensors(); ++i) {
      const char* name = engine_.getIOTensorName(i);
      require(name != nullptr, plan_ + ": TensorRT names no tensor " + std::to_string(i));
      Tensor tensor;
      tensor.name = name;
      tensor.is_input = engine_.getTensorIOMode(name) == nvinfer1::TensorIOMode::kINPUT;
      tensor.dtype = dtype_name(engine_.getTensorDataType(name));
      tensor.shape = shape_of(engine_.getTensorShape(name));
      tensor.layout = layout_name(engine_.getTensorFormat(name), engine_.getTensorFormatDesc(name));
      tensor.on_device =
          engine_.getTensorLocation(name) == nvinfer1::TensorLocation::kDEVICE && !engine_.isShapeInferenceIO(name);
      tensors.push_back(std::move(tensor));
    }
    const std::string input = only_input(plan_, tensors).name;
    const auto profile = [&](nvinfer1::OptProfileSelector which) {
      return shape_of(engine_.getProfileShape(input.c_str(), 0, which));
    };
    signature_ = check_signature(
        plan_, tensors, {profile(nvinfer1::OptProfileSelector::kMIN), profile(nvinfer1::OptProfileSelector::kMAX)});
  }

  const Signature& signature() const noexcept override { return signature_; }

  Mode single_stream_mode() const noexcept override { return Mode::enqueue; }

  std::unique_ptr<Execution> execution(float* input, float* output, cudaStream_t stream, Mode /*mode*/) override {
    return std::make_unique<Trt10Execution>(plan_, engine_, signature_, input, output, stream);
  }

 private:
  std::string plan_;
  Loaded loaded_;
  nvinfer1::ICudaEngine& engine_;
  Signature signature_;
};

}  // namespace

std::unique_ptr<Engine> load_engine(const std::string& plan, std::string_view content, bool allow_host_code) {
  return std::make_unique<Trt10Engine>(plan, content, allow_host_code);
}

}  // namespace infer
