#include "options.h"

#include <algorithm>
#include <charconv>
#include <set>
#include <system_error>

#include "error.h"

namespace infer {

namespace {

constexpr const char* hint = "; --help explains";

std::size_t whole(const std::string& option, const std::string& text, std::size_t least, std::size_t most) {
  std::size_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < least || value > most) {
    throw InputError(option + ": found " + quoted(text) + "; allowed: a whole number from " + std::to_string(least) +
                     " to " + std::to_string(most));
  }
  return value;
}

/// The options that take a value, each with where it goes.
void take(Options& options, const std::string& option, const std::string& value) {
  if (option == "--batch") {
    options.batch = whole(option, value, 1, 1U << 20U);
  } else if (option == "--streams") {
    options.streams = whole(option, value, 1, 256);
  } else if (option == "--copiers") {
    options.copiers = whole(option, value, 0, 256);
  } else if (option == "--repeat") {
    options.repeat = whole(option, value, 1, 1U << 20U);
  } else if (value.empty()) {
    throw InputError(option + ": found no file name; allowed: a path");
  } else if (option == "--plan") {
    options.plan = value;
  } else if (option == "--csv") {
    options.csv = value;
  } else if (option == "--raw") {
    options.raw = value;
  } else if (option == "--output") {
    options.output = value;
  } else {
    options.json = value;
  }
}

/// Parses words into options; gives those that were there.
std::set<std::string> parse(Options& options, const std::vector<std::string>& words) {
  const std::set<std::string> valued{"--plan",  "--csv",     "--raw",     "--output", "--json",
                                     "--batch", "--streams", "--copiers", "--repeat"};
  const std::set<std::string> switches{"--no-graphs", "--allow-host-code", "--serve", "--help", "--version"};
  std::set<std::string> seen;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::size_t equals = words[i].find('=');
    const std::string option = words[i].substr(0, equals);
    const bool takes_value = valued.count(option) > 0;
    if (!takes_value && switches.count(option) == 0) {
      throw InputError(
          "found the option " + quoted(option) +
          "; allowed: --plan, --csv, --raw, --output, --batch, --streams, --no-graphs, --copiers, --repeat, "
          "--json, --allow-host-code, --serve, --help, --version" +
          hint);
    }
    if (!seen.insert(option).second) {
      throw InputError(option + ": found more than once; allowed: once" + hint);
    }
    if (takes_value) {
      if (equals == std::string::npos && i + 1 == words.size()) {
        throw InputError(option + ": found no value after it" + hint);
      }
      take(options, option, equals == std::string::npos ? words[++i] : words[i].substr(equals + 1));
    } else if (equals != std::string::npos) {
      throw InputError(option + ": found a value; allowed: none" + hint);
    }
  }
  options.graphs = seen.count("--no-graphs") == 0;
  options.allow_host_code = seen.count("--allow-host-code") > 0;
  options.serve = seen.count("--serve") > 0;
  options.help = seen.count("--help") > 0;
  options.version = seen.count("--version") > 0;
  return seen;
}

/// Refuses options that name no samples, two files of them, or no place for the predictions.
void check_files(const Options& options) {
  if (options.output.empty()) {
    throw InputError(std::string("--output is missing") + hint);
  }
  if (options.csv.empty() == options.raw.empty()) {
    throw InputError(std::string("found ") + (options.csv.empty() ? "neither" : "both") +
                     " of --csv and --raw; allowed: one of them" + hint);
  }
}

}  // namespace

Options parse_options(const std::vector<std::string>& arguments) {
  Options options;
  const std::set<std::string> seen = parse(options, arguments);
  if (options.help || options.version) {
    return options;
  }
  if (options.plan.empty()) {
    throw InputError(std::string("--plan is missing") + hint);
  }
  if (!options.serve) {
    check_files(options);
    return options;
  }
  for (const std::string& option : seen) {
    if (option != "--serve" && option != "--plan" && option != "--allow-host-code") {
      throw InputError(option + ": found beside --serve; allowed: in its requests, and --plan and --allow-host-code" +
                       hint);
    }
  }
  return options;
}

Options parse_request(const std::vector<std::string>& words, const Options& served) {
  Options options;
  const std::set<std::string> seen = parse(options, words);
  for (const char* option : {"--plan", "--allow-host-code", "--serve", "--help", "--version"}) {
    if (seen.count(option) > 0) {
      throw InputError(std::string(option) + ": found in a request; allowed: on the command line" + hint);
    }
  }
  options.plan = served.plan;
  options.allow_host_code = served.allow_host_code;
  check_files(options);
  return options;
}

std::string help_text(const std::string& program) {
  return "usage: " + program + " --plan FILE (--csv FILE | --raw FILE) --output FILE [options]\n       " + program +
         R"( --serve --plan FILE [--allow-host-code]

Runs a TensorRT plan with one float32 input and one float32 output on every sample of a file.

  --plan FILE         the plan (serialized engine)
  --csv FILE          samples: sample_id,pixel_0,...,pixel_{n-1} and one row a sample
  --raw FILE          samples: little-endian float32 values alone; sample_id is the row's number, from 0 on
  --output FILE       predictions: sample_id,class,confidence,p_0,...,p_{k-1}, 9 significant digits each
  --batch N           samples a batch (default 32); the last batch has what is left
  --streams N         batches on the device at once; 1 runs them one after the other (default: the fastest of 4, 8
                      and 16, measured before anything is timed; 16 where there are few batches, or long ones)
  --no-graphs         enqueue every batch instead of launching it as a CUDA graph
  --copiers N         threads that copy samples to page-locked memory; 0: the submitting thread does (default: chosen
                      for the batch and the machine, measured with the streams)
  --repeat N          timed passes over all samples (default 1), after a warm-up that is not timed
  --json FILE         a report: throughput, latency, transfers, versions, and a SHA-256 of what the device was fed
                      (which takes one more pass, not timed)
  --allow-host-code   load plans that carry code to run on this machine (version-compatible ones); trust them first
  --serve             load the plan once, and run what standard input asks for: each request has the other options,
                      every word ended by a zero byte, and a last zero byte; each is answered by a line on standard
                      output: the request's number from 1 on, an exit code, and behind any but 0 what went wrong. "0 0"
                      comes first, when the plan is loaded. An exit code of 1 or 3 ends the program, and so does the
                      end of standard input
  --help, --version

Files are written beside their place and renamed: they are complete or not there.

exit codes
  0  all samples were run and written
  1  out of memory, or a fault of this program
  2  wrong options, or a file that cannot be read, used or written
  3  CUDA or TensorRT failed, or the plan is not one that this program runs
)";
}

std::vector<std::size_t> copier_candidates(std::size_t batch_bytes, std::size_t streams, unsigned cores) {
  constexpr std::size_t small = std::size_t{64} << 10U;
  constexpr std::size_t large = std::size_t{1} << 20U;
  if (batch_bytes <= small || streams == 1) {
    return {0};
  }
  const std::size_t likeliest = batch_bytes <= large ? 1 : std::clamp<std::size_t>(cores / 2, 1, 4);
  // Each polls while it waits, as the calling thread does: more threads than cores would only take turns.
  return 2 * likeliest < cores ? std::vector<std::size_t>{2 * likeliest, likeliest} : std::vector{likeliest};
}

}  // namespace infer
