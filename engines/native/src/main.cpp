// Reads samples, runs them, writes predictions; the same for every version of TensorRT.
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <filesystem>
#include <limits>
#include <new>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "cuda.h"
#include "cuda_slot.h"
#include "engine.h"
#include "error.h"
#include "files.h"
#include "options.h"
#include "pipeline.h"
#include "predictions.h"
#include "report.h"
#include "samples.h"
#include "sha256.h"
#include "tuning.h"

namespace infer {

namespace {

/// Seconds since it was made.
class Watch {
 public:
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// Refuses to replace what is read, or one output with the other.
void check_distinct(const Options& options) {
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
Pipeline make_pipeline(Engine& engine, const Options& options, std::size_t count, Report& report) {
  const Signature& signature = engine.signature();
  const std::size_t streams = options.streams.value_or(most_slots);
  const Mode mode = streams == 1 ? engine.single_stream_mode() : Mode::enqueue;
  const std::size_t full = count / options.batch;
  const std::size_t rest = count % options.batch;
  report.graphs = options.graphs && mode == Mode::enqueue;
  report.copiers = copiers_to_try(options, signature, streams).back();
  // A single context runs the remainder, too, unless a graph depends on its shape: plans without profile sharing
  // allow no second one.
  const bool own_tail = rest > 0 && (streams > 1 || report.graphs || full == 0);
  std::vector<std::unique_ptr<Slot>> slots;
  for (std::size_t i = 0; i < std::min(streams, full); ++i) {
    slots.push_back(std::make_unique<CudaSlot>(engine, options.batch, mode, report.graphs));
  }
  report.streams = std::max<std::size_t>(1, slots.size());  // what there is, which may be less than what was asked for
  std::unique_ptr<Slot> tail;
  if (own_tail) {
    tail = std::make_unique<CudaSlot>(engine, rest, mode, report.graphs);
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

void run(const Options& options) {
  Report report;
  report.program = program_name();
  report.plan = options.plan;
  report.batch = options.batch;
  report.repeat = options.repeat;
  check_distinct(options);
  // Opened first: better refused now than after a long run.
  AtomicFile output(options.output);
  std::optional<AtomicFile> json;
  if (!options.json.empty()) {
    json.emplace(options.json);
  }
  Array<char> plan = read_file(options.plan);
  if (plan.size() == 0) {
    throw InputError(options.plan + ": the file is empty; allowed: a TensorRT plan");
  }

  // Samples before the engine: their mistakes can be told without a GPU.
  const Watch reading;
  Samples samples;
  RawFile raw;
  if (options.csv.empty()) {
    raw = read_raw(options.raw);
  } else {
    samples = read_csv(options.csv);
  }
  report.read_seconds = reading.seconds();

  report.tensorrt = library_version();
  report.library = library_name();
  report.device = device_name();
  const Watch loading;
  const std::unique_ptr<Engine> engine = load_engine(options.plan, {plan.data(), plan.size()}, options.allow_host_code);
  report.load_seconds = loading.seconds();
  plan = Array<char>();
  const Signature& signature = engine->signature();
  report.input = signature.input;
  report.output = signature.output;

  if (options.csv.empty()) {
    const Watch counting;
    samples = raw_samples(options.raw, raw, signature.input_width);
    raw = RawFile();
    report.read_seconds += counting.seconds();
  } else {
    check_width(options.csv, signature, samples.width);
  }
  report.samples = samples.count();
  check_batches(options.plan, signature, options.batch, samples.count());

  Pipeline pipeline = make_pipeline(*engine, options, samples.count(), report);
  const Array<float> outputs = run_all(pipeline, options, samples, signature, report);
  check_finite(options.plan, samples.ids, outputs.data(), signature.output_width);

  const Watch writing;
  write_predictions(output, samples.ids, outputs.data(), signature.output_width);
  output.commit();
  report.write_seconds = writing.seconds();
  if (json) {
    json->write(report_json(report));
    json->commit();
  }
}

int main_checked(const std::vector<std::string>& arguments) {
  const Options options = parse_options(arguments);
  std::string text;
  if (options.help) {
    text = help_text(program_name());
  } else if (options.version) {
    text = std::string(program_name()) + ": TensorRT " + library_version() + " (" + library_name() + "; headers " +
           headers_version() + "), CUDA runtime " + std::to_string(CUDART_VERSION / 1000) + "." +
           std::to_string(CUDART_VERSION % 1000 / 10) + "\n";
  } else {
    run(options);
  }
  if (std::fputs(text.c_str(), stdout) == EOF || std::fflush(stdout) != 0) {
    throw InputError("standard output cannot be written");
  }
  return 0;
}

}  // namespace

}  // namespace infer

int main(int argc, char** argv) {
  const auto failed = [](int code, std::string what) {
    // One line, whatever TensorRT's own messages hold.
    std::replace_if(
        what.begin(), what.end(), [](char c) { return c == '\n' || c == '\r'; }, ' ');
    std::fprintf(stderr, "%s: %s\n", infer::program_name(), what.c_str());
    return code;
  };
  // Writing beyond a limit on file sizes then fails with a message instead of ending the program.
  static_cast<void>(std::signal(SIGXFSZ, SIG_IGN));
  infer::remove_temporaries_on_signals();
  try {
    return infer::main_checked({argv + std::min(argc, 1), argv + argc});
  } catch (const infer::InputError& error) {
    return failed(2, error.what());
  } catch (const infer::DeviceError& error) {
    return failed(3, error.what());
  } catch (const std::bad_alloc&) {
    return failed(1, "out of memory on this machine");
  } catch (const std::exception& error) {
    return failed(1, error.what());
  }
}
