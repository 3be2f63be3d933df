// The command line.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace infer {

/// What the command line asks for.
struct Options {
  std::string plan;
  std::string csv;  ///< empty where raw is given
  std::string raw;
  std::string output;
  std::string json;  ///< empty: no report
  std::size_t batch = 32;
  std::optional<std::size_t> streams;  ///< none: the fastest of several, measured
  std::optional<std::size_t> copiers;  ///< none: chosen for the batch and the machine
  std::size_t repeat = 1;
  bool graphs = true;
  bool allow_host_code = false;
  bool serve = false;  ///< the samples and what to do with them come in requests
  bool help = false;
  bool version = false;
};

/// Parses the arguments after the program's name. Throws InputError, naming the option, what was found and allowed.
Options parse_options(const std::vector<std::string>& arguments);

/// Parses the words of a request to a program that serves with these options; its plan is theirs. Throws InputError.
Options parse_request(const std::vector<std::string>& words, const Options& served);

/// The text of --help.
std::string help_text(const std::string& program);

/// Lists how many copier threads may be fastest where nobody says, the likeliest last: none for small batches, which
/// are copied before a thread would have started, and for a single stream, which has nothing to overlap with; one or
/// two for batches that one copies in time; several for large ones.
std::vector<std::size_t> copier_candidates(std::size_t batch_bytes, std::size_t streams, unsigned cores);

}  // namespace infer
