#include "run.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <limits>
#include <memory>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "error.h"
#include "pipeline.h"
#include "predictions.h"
#include "sha256.h"
#include "tuning.h"
#include "watch.h"

namespace infer {

namespace {

/// Refuses to replace what is read, or one output with the other; gives the options back.
const Options& distinct(const Options& options) {
  const std::vector<std::pair<const char*, const std::string*>> files{{"--plan", &options.plan},
                                                                      {"--csv", &options.csv},
                                                                      {"--raw", &options.raw},
                                                                      {"--output", &options.output},
                                                                      {"--json", &options.json}};
  for (std::size_t i = 0; i < files.size(); ++i) {
    for (std::size_t j = std::max<std::size_t>(i + 1, 3); j < files.size(); ++j) {
      if (files[i].second->empty() || files[j].second->empty()) {
        continue;
      }
      std::error_code error;  // of files that do not exist yet, whose names alone are compared
      const auto one = std::filesystem::weakly_canonical(link_target(*files[i].second), error);
      const auto other = std::filesystem::weakly_canonical(link_target(*files[j].second), error);
      // Empty where a folder may not be looked into; what can be done with the file is told when it is opened.
      if ((!one.empty() && one == other) || std::filesystem::equivalent(one, other, error)) {
        throw InputError(std::string(files[j].first) + ": found the file of " + files[i].first + ", " +
                         *files[j].second + "; allowed: a file of its own");
      }
    }
  }
  return options;
}

/// Lists how many copier threads to try, the likeliest last.
std::vector<std::size_t> copiers_to_try(const Options& options, const Signature& signature, std::size_t streams) {
  if (options.copiers) {
    return {*options.copiers};
  }
  const std::size_t batch_bytes = options.batch * signature.input_width * sizeof(float);
  return copier_candidates(batch_bytes, streams, std::thread::hardware_concurrency());
}

/// Makes the slots and what runs them.
Pipeline make_pipeline(LoadedPlan& plan, const Options& options, std::size_t count, Report& report) {
  const Signature& signature = plan.signature();
  const std::size_t streams = options.streams.value_or(most_slots);
  const Mode mode = streams == 1 ? plan.single_stream_mode() : Mode::enqueue;
  const std::size_t full = count / options.batch;
  const std::size_t rest = count % options.batch;
  report.graphs = options.graphs && mode == Mode::enqueue;
  report.copiers = copiers_to_try(options, signature, streams).back();
  // A single context runs the remainder, too, unless a graph depends on its shape: plans without profile sharing
  // allow no second one.
  const bool own_tail = rest > 0 && (streams > 1 || report.graphs || full == 0);
  std::vector<std::unique_ptr<Slot>> slots;
  for (std::size_t i = 0; i < std::min(streams, full); ++i) {
    slots.push_back(plan.slot(options.batch, mode, report.graphs));
  }
  report.streams = std::max<std::size_t>(1, slots.size());  // what there is, which may be less than what was asked for
  std::unique_ptr<Slot> tail;
  if (own_tail) {
    tail = plan.slot(rest, mode, report.graphs);
  }
  return {options.batch,    signature.input_width, signature.output_width,
          std::move(slots), std::move(tail),       report.copiers};
}

/// Runs all samples ``repeat`` times, after a warm-up, and gives the outputs, which are the same bits each time.
/// Throws DeviceError where they are not.
Array<float> run_all(Pipeline& pipeline, const Options& options, const Samples& samples, const Signature& signature,
                     Report& report) {
  const std::size_t count = samples.count();
  const std::size_t output_width = signature.output_width;
  const float* values = samples.values.data();
  Array<float> outputs(count * output_width);
  Array<float> before(count * output_width);
  const std::size_t warm = std::min(count / options.batch, 2 * report.streams) * options.batch;
  static_cast<void>(pipeline.run(values, warm, outputs.data()));
  static_cast<void>(
      pipeline.run(values + (count - count % options.batch) * samples.width, count % options.batch, outputs.data()));
  if (!options.streams && pipeline.slots() > 1) {
    const Settings fastest = tune(candidates(pipeline.slots(), copiers_to_try(options, signature, pipeline.slots())),
                                  count / options.batch, [&](const Settings& settings, std::size_t batches) {
                                    pipeline.use(settings.slots, settings.copiers);
                                    return pipeline.run(values, batches * options.batch, outputs.data()).seconds;
                                  });
    pipeline.use(fastest.slots, fastest.copiers);
    report.streams = fastest.slots;
    report.copiers = fastest.copiers;
  }
  // Not numbers, so that an output which nobody writes from here on is found.
  std::fill_n(outputs.data(), outputs.size(), std::numeric_limits<float>::quiet_NaN());
  std::fill_n(before.data(), before.size(), std::numeric_limits<float>::quiet_NaN());
  const std::size_t bytes = count * output_width * sizeof(float);
  bool first = true;
  // What was fed is told of one pass, and another one is written: that holds only where both gave the same.
  const auto compare = [&] {
    if (!first && std::memcmp(before.data(), outputs.data(), bytes) != 0) {
      throw DeviceError(options.plan + ": the same samples got other answers in another pass; allowed: the same bits");
    }
    first = false;
    std::swap(before, outputs);
  };
  if (!options.json.empty()) {
    Sha256 hash;
    static_cast<void>(pipeline.run(values, count, outputs.data(), [&hash](const float* fed, std::size_t size) {
      hash.update(fed, size * sizeof(float));
    }));
    report.fed_sha256 = hash.hex();
    compare();
  }
  for (std::size_t i = 0; i < options.repeat; ++i) {
    const Pass pass = pipeline.run(values, count, outputs.data());
    report.passes.push_back(static_cast<double>(count) / pass.seconds);
    report.latencies.insert(report.latencies.end(), pass.latencies.begin(), pass.latencies.end());
    report.copies = pass.copies;
    compare();
  }
  return before;
}

}  // namespace

Run::Run(const Options& options) : options_(distinct(options)), output_(options.output) {
  if (!options_.json.empty()) {
    json_.emplace(options_.json);
  }
}

void Run::read_samples() {
  const Watch reading;
  if (options_.csv.empty()) {
    raw_ = read_raw(options_.raw);
  } else {
    samples_ = read_csv(options_.csv);
  }
  read_seconds_ = reading.seconds();
}

void Run::execute(LoadedPlan& plan, Report report) {
  const Signature& signature = plan.signature();
  report.plan = options_.plan;
  report.batch = options_.batch;
  report.repeat = options_.repeat;
  report.device = plan.device();
  report.load_seconds = plan.load_seconds();
  report.read_seconds = read_seconds_;
  report.input = signature.input;
  report.output = signature.output;
  if (options_.csv.empty()) {
    const Watch counting;
    samples_ = raw_samples(options_.raw, raw_, signature.input_width);
    raw_ = RawFile();
    report.read_seconds += counting.seconds();
  } else {
    check_width(options_.csv, signature, samples_.width);
  }
  report.samples = samples_.count();
  check_batches(options_.plan, signature, options_.batch, samples_.count());

  Pipeline pipeline = make_pipeline(plan, options_, samples_.count(), report);
  const Array<float> outputs = run_all(pipeline, options_, samples_, signature, report);
  check_finite(options_.plan, samples_.ids, outputs.data(), signature.output_width);

  const Watch writing;
  write_predictions(output_, samples_.ids, outputs.data(), signature.output_width);
  output_.commit();
  report.write_seconds = writing.seconds();
  if (json_) {
    json_->write(report_json(report));
    json_->commit();
  }
}

}  // namespace infer
