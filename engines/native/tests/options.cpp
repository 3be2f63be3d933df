// The command line.
#include "options.h"

#include "error.h"
#include "testing.h"

using infer::InputError;
using infer::Options;
using infer::parse_options;

namespace {

std::vector<std::string> with(std::vector<std::string> more) {
  std::vector<std::string> arguments{"--plan", "m.plan", "--csv", "s.csv", "--output", "p.csv"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

void refuses(const std::vector<std::string>& arguments, const std::vector<std::string>& parts) {
  testing::expect_throws<InputError>([&] { static_cast<void>(parse_options(arguments)); }, parts, __FILE__, __LINE__);
}

}  // namespace

TEST("what is not given has its default") {
  const Options options = parse_options(with({}));
  EXPECT_EQ(options.plan, "m.plan");
  EXPECT_EQ(options.csv, "s.csv");
  EXPECT_EQ(options.output, "p.csv");
  EXPECT_EQ(options.batch, 32U);
  EXPECT_EQ(options.repeat, 1U);
  EXPECT(options.graphs && !options.allow_host_code && options.json.empty());
  EXPECT(!options.streams && !options.copiers);
}

TEST("every option arrives, written with a space or with =") {
  const Options options =
      parse_options({"--plan=m.plan", "--raw", "s.raw", "--output=p.csv", "--batch", "64", "--streams=16",
                     "--no-graphs", "--copiers=0", "--repeat", "5", "--json=r.json", "--allow-host-code"});
  EXPECT_EQ(options.raw, "s.raw");
  EXPECT_EQ(options.batch, 64U);
  EXPECT_EQ(options.streams.value(), 16U);
  EXPECT_EQ(options.copiers.value(), 0U);
  EXPECT_EQ(options.repeat, 5U);
  EXPECT_EQ(options.json, "r.json");
  EXPECT(!options.graphs && options.allow_host_code);
}

TEST("an option that is unknown, repeated, incomplete or has a wrong value is refused by name") {
  refuses(with({"--bach", "3"}), {"found the option \"--bach\"", "--batch"});
  refuses(with({"extra"}), {"found the option \"extra\""});
  refuses(with({"--batch", "3", "--batch=4"}), {"--batch: found more than once"});
  refuses(with({"--batch"}), {"--batch: found no value"});
  refuses(with({"--json="}), {"--json: found no file name"});
  refuses(with({"--no-graphs=1"}), {"--no-graphs: found a value"});
  for (const std::string value : {"0", "-1", "x", "3.5", "", "1048577", "99999999999999999999", " 3", "3 "}) {
    refuses(with({"--batch", value}), {"--batch: found \"" + value, "allowed: a whole number from 1 to 1048576"});
  }
  refuses(with({"--streams", "0"}), {"--streams", "from 1 to 256"});
  refuses(with({"--copiers", "257"}), {"--copiers", "from 0 to 256"});
  refuses(with({"--repeat", "0"}), {"--repeat", "from 1"});
}

TEST("plan, output and just one of csv and raw must be given") {
  refuses({}, {"--plan is missing"});
  refuses({"--plan", "m", "--csv", "s"}, {"--output is missing"});
  refuses({"--plan", "m", "--output", "p"}, {"found neither of --csv and --raw"});
  refuses(with({"--raw", "s"}), {"found both of --csv and --raw"});
}

TEST("a program that serves takes the plan alone, and its requests all else") {
  const Options served = parse_options({"--serve", "--plan", "m.plan", "--allow-host-code"});
  EXPECT(served.serve && served.allow_host_code);
  EXPECT_EQ(served.plan, "m.plan");
  const Options request =
      infer::parse_request({"--raw", "s.raw", "--output=p.csv", "--batch=7", "--no-graphs"}, served);
  EXPECT(!request.serve && request.allow_host_code && !request.graphs);
  EXPECT_EQ(request.plan, "m.plan");
  EXPECT_EQ(request.raw, "s.raw");
  EXPECT_EQ(request.batch, 7U);
  refuses({"--serve"}, {"--plan is missing"});
  for (const std::string option :
       {"--raw", "--csv", "--output", "--json", "--batch", "--streams", "--copiers", "--repeat"}) {
    refuses({"--serve", "--plan=m", option + "=1"}, {option + ": found beside --serve; allowed: in its requests"});
  }
  refuses({"--serve", "--plan=m", "--no-graphs"}, {"--no-graphs: found beside --serve"});
  for (const std::string option : {"--plan=m", "--allow-host-code", "--serve", "--help", "--version"}) {
    EXPECT_THROWS(InputError, infer::parse_request({"--raw", "s", "--output", "p", option}, served),
                  option.substr(0, option.find('=')) + ": found in a request; allowed: on the command line");
  }
  EXPECT_THROWS(InputError, infer::parse_request({"--raw", "s"}, served), "--output is missing");
  EXPECT_THROWS(InputError, infer::parse_request({"--output", "p"}, served), "found neither of --csv and --raw");
}

TEST("help and version need nothing else, and the help names every option and exit code") {
  EXPECT(parse_options({"--help"}).help);
  EXPECT(parse_options({"--version"}).version);
  const std::string help = infer::help_text("trt8_infer");
  for (const char* part : {"trt8_infer", "--plan", "--csv", "--raw", "--output", "--batch", "--streams", "--no-graphs",
                           "--copiers", "--repeat", "--json", "--allow-host-code", "--serve", "--help", "--version",
                           "\n  0  ", "\n  1  ", "\n  2  ", "\n  3  "}) {
    EXPECT(help.find(part) != std::string::npos);
  }
}

TEST("copier threads are chosen by the size of a batch and the machine, and none for a single stream") {
  using Numbers = std::vector<std::size_t>;
  EXPECT(infer::copier_candidates(8192, 8, 16) == Numbers{0});
  EXPECT(infer::copier_candidates(393216, 8, 16) == (Numbers{2, 1}));
  EXPECT(infer::copier_candidates(393216, 8, 2) == Numbers{1});
  EXPECT(infer::copier_candidates(12582912, 8, 16) == (Numbers{8, 4}));
  EXPECT(infer::copier_candidates(12582912, 8, 4) == Numbers{2});
  EXPECT(infer::copier_candidates(12582912, 8, 0) == Numbers{1});
  EXPECT(infer::copier_candidates(12582912, 1, 16) == Numbers{0});
}
