#include "program.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <system_error>

#include "error.h"
#include "files.h"
#include "memory.h"
#include "options.h"
#include "report.h"
#include "run.h"
#include "serve.h"

namespace infer {

namespace {

Array<char> read_plan(const std::string& path) {
  Array<char> content = read_file(path);
  if (content.size() == 0) {
    throw InputError(path + ": the file is empty; allowed: a TensorRT plan");
  }
  return content;
}

/// What a report tells of the program.
Report report_of(const Program& program) {
  Report report;
  report.program = program.name;
  report.tensorrt = program.tensorrt;
  report.library = program.library;
  return report;
}

void run_once(const Program& program, const Options& options) {
  Run run(options);
  Array<char> content = read_plan(options.plan);
  run.read_samples();
  const auto plan = program.load(options.plan, {content.data(), content.size()}, options.allow_host_code);
  content = Array<char>();
  run.execute(*plan, report_of(program));
}

/// Makes standard output another name of standard error, so that a library which prints does not print among answers.
/// Gives a descriptor of what it was.
Descriptor standard_output_kept() {
  const int kept = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
  if (kept < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0) {
    throw InputError("standard output cannot be written: " + std::generic_category().message(errno));
  }
  return Descriptor(kept);
}

int run_requests(const Program& program, const Options& options) {
  const Descriptor answers = standard_output_kept();
  Array<char> content = read_plan(options.plan);
  const auto plan = program.load(options.plan, {content.data(), content.size()}, options.allow_host_code);
  content = Array<char>();
  return serve(STDIN_FILENO, answers.get(), [&](const std::vector<std::string>& words) {
    Run run(parse_request(words, options));
    run.read_samples();
    // Slots are made anew for each request, so that it starts in the state of a process that ran nothing before.
    run.execute(*plan, report_of(program));
  });
}

int run_checked(const Program& program, const std::vector<std::string>& arguments) {
  const Options options = parse_options(arguments);
  std::string text;
  if (options.help) {
    text = help_text(program.name);
  } else if (options.version) {
    text = program.name + ": TensorRT " + program.tensorrt + " (" + program.library + "; headers " + program.headers +
           "), CUDA runtime " + program.cuda + "\n";
  } else if (options.serve) {
    return run_requests(program, options);
  } else {
    run_once(program, options);
  }
  if (std::fputs(text.c_str(), stdout) == EOF || std::fflush(stdout) != 0) {
    throw InputError("standard output cannot be written");
  }
  return 0;
}

}  // namespace

int run_program(const Program& program, const std::vector<std::string>& arguments) {
  try {
    return run_checked(program, arguments);
  } catch (const std::exception&) {
    const Failure failure = failure_handled();
    std::fprintf(stderr, "%s: %s\n", program.name.c_str(), failure.message.c_str());
    return failure.code;
  }
}

}  // namespace infer
