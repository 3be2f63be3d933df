// TensorRT 8: bindings by index; executeV2 for a single stream, enqueueV2 with the same bindings for several.
#include <NvInferRuntime.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "cuda.h"
#include "engine.h"
#include "tensorrt_common.h"

static_assert(NV_TENSORRT_MAJOR == 8, "trt8_infer is built with the headers of TensorRT 8");

// 8.5 deprecated everything that works by binding index, which is what every 8.x has and what this program is for.
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

namespace infer {

namespace {

class Trt8Execution final : public Execution {
 public:
  Trt8Execution(std::string plan, nvinfer1::ICudaEngine& engine, const Signature& signature, float* input,
                float* output, cudaStream_t stream, Mode mode)
      : plan_(std::move(plan)),
        input_(engine.getBindingIndex(signature.input.name.c_str())),
        output_(engine.getBindingIndex(signature.output.name.c_str())),
        bindings_(static_cast<std::size_t>(engine.getNbBindings())),
        stream_(stream),
        mode_(mode) {
    logger().forget();
    require(input_ >= 0 && output_ >= 0, plan_ + ": TensorRT has no binding for the input or the output");
    shape_ = engine.getBindingDimensions(input_);
    // Bindings of other optimization profiles stay null: profile 0 has the first ones.
    bindings_.at(static_cast<std::size_t>(input_)) = input;
    bindings_.at(static_cast<std::size_t>(output_)) = output;
    context_.reset(engine.createExecutionContext());
    require(context_ != nullptr, plan_ + ": TensorRT gives no execution context (fewer --streams need less memory)");
    if (context_->getOptimizationProfile() != 0) {
      require(context_->setOptimizationProfileAsync(0, stream_),
              plan_ +
                  ": TensorRT refuses optimization profile 0 to another context; build the plan with profile sharing "
                  "(preview feature PROFILE_SHARING_0806), or run it with --streams 1");
      INFER_CUDA(cudaStreamSynchronize(stream_));
    }
  }

  void set_rows(std::size_t rows) override {
    if (rows == rows_) {
      return;
    }
    logger().forget();
    shape_.d[0] = static_cast<std::int32_t>(rows);
    require(context_->setBindingDimensions(input_, shape_),
            plan_ + ": TensorRT refuses the input shape " + shape_text(shape_of(shape_)));
    const std::vector<std::int64_t> found = shape_of(context_->getBindingDimensions(output_));
    require(!found.empty() && found[0] == static_cast<std::int64_t>(rows),
            plan_ + ": the output's shape is " + shape_text(found) + " for a batch of " + std::to_string(rows));
    rows_ = rows;
  }

  void run() override {
    logger().forget();
    const bool good = mode_ == Mode::wait ? context_->executeV2(bindings_.data())
                                          : context_->enqueueV2(bindings_.data(), stream_, nullptr);
    require(good, plan_ + ": TensorRT did not run a batch of " + std::to_string(rows_));
  }

 private:
  std::string plan_;
  std::int32_t input_;
  std::int32_t output_;
  std::vector<void*> bindings_;
  nvinfer1::Dims shape_{};
  cudaStream_t stream_;
  Mode mode_;
  std::size_t rows_ = 0;
  std::unique_ptr<nvinfer1::IExecutionContext> context_;
};

class Trt8Engine final : public Engine {
 public:
  Trt8Engine(std::string plan, std::string_view content, bool allow_host_code)
      : plan_(std::move(plan)), loaded_(deserialize(plan_, content, allow_host_code)), engine_(*loaded_.engine) {
    if (engine_.hasImplicitBatchDimension()) {
      throw DeviceError(plan_ +
                        ": the engine has an implicit batch dimension; allowed: networks with an explicit batch");
    }
    const std::int32_t profiles = std::max(engine_.getNbOptimizationProfiles(), 1);
    std::vector<Tensor> tensors;
    for (std::int32_t i = 0; i < engine_.getNbBindings() / profiles; ++i) {
      const char* name = engine_.getBindingName(i);
      require(name != nullptr, plan_ + ": TensorRT names no binding " + std::to_string(i));
      Tensor tensor;
      tensor.name = name;
      tensor.is_input = engine_.bindingIsInput(i);
      tensor.dtype = dtype_name(engine_.getBindingDataType(i));
      tensor.shape = shape_of(engine_.getBindingDimensions(i));
      tensor.layout = layout_name(engine_.getBindingFormat(i), engine_.getBindingFormatDesc(i));
      tensor.on_device = engine_.getLocation(i) == nvinfer1::TensorLocation::kDEVICE && !engine_.isShapeBinding(i);
      tensors.push_back(std::move(tensor));
    }
    const std::int32_t input = engine_.getBindingIndex(only_input(plan_, tensors).name.c_str());
    const auto profile = [&](nvinfer1::OptProfileSelector which) {
      return shape_of(engine_.getProfileDimensions(input, 0, which));
    };
    signature_ = check_signature(
        plan_, tensors, {profile(nvinfer1::OptProfileSelector::kMIN), profile(nvinfer1::OptProfileSelector::kMAX)});
  }

  const Signature& signature() const noexcept override { return signature_; }

  Mode single_stream_mode() const noexcept override { return Mode::wait; }

  std::unique_ptr<Execution> execution(float* input, float* output, cudaStream_t stream, Mode mode) override {
    return std::make_unique<Trt8Execution>(plan_, engine_, signature_, input, output, stream, mode);
  }

 private:
  std::string plan_;
  Loaded loaded_;
  nvinfer1::ICudaEngine& engine_;
  Signature signature_;
};

}  // namespace

std::unique_ptr<Engine> load_engine(const std::string& plan, std::string_view content, bool allow_host_code) {
  return std::make_unique<Trt8Engine>(plan, content, allow_host_code);
}

}  // namespace infer
