// The report as JSON.
#include "report.h"

#include "testing.h"

using infer::json_string;
using infer::percentile;
using infer::Report;

TEST("text is quoted so that any JSON reader gets it back, and bytes that are no text are replaced") {
  EXPECT_EQ(json_string("a \"b\" \\ c"), R"("a \"b\" \\ c")");
  EXPECT_EQ(json_string("tab\tend\n\x01"), R"("tab\u0009end\u000a\u0001")");
  EXPECT_EQ(json_string("Größe 漢 😀"), "\"Größe 漢 😀\"");
  EXPECT_EQ(json_string("\xff\xc3(\xe2\x82"), R"("\ufffd\ufffd(\ufffd\ufffd")");
  EXPECT_EQ(json_string("\xed\xa0\x80"), R"("\ufffd\ufffd\ufffd")");
  EXPECT_EQ(json_string("\xc0\x80"), R"("\ufffd\ufffd")");
}

TEST("a percentile is one of the values, by nearest rank") {
  EXPECT_EQ(percentile({5, 1, 4, 2, 3}, 0.5), 3.0F);
  EXPECT_EQ(percentile({5, 1, 4, 2, 3}, 0.9), 5.0F);
  EXPECT_EQ(percentile({1, 2}, 0.5), 1.0F);
  EXPECT_EQ(percentile({7}, 0.99), 7.0F);
  EXPECT_EQ(percentile({}, 0.5), 0.0F);
}

TEST("the report has every entry, and its best pass") {
  Report report;
  report.program = "trt8_infer";
  report.tensorrt = "8.6.0";
  report.library = "nvinfer_lean";
  report.device = "a GPU";
  report.plan = "m.plan";
  report.samples = 100;
  report.batch = 32;
  report.streams = 8;
  report.graphs = true;
  report.copiers = 4;
  report.repeat = 2;
  report.copies = {4, 4};
  report.passes = {1000.5, 2000};
  report.latencies = {1, 2, 3, 4};
  report.load_seconds = 0.5;
  report.read_seconds = 0.25;
  report.write_seconds = 0.125;
  report.fed_sha256 = "ab";
  report.input = {"x", true, "float32", {-1, 2, 3}, "linear", true};
  report.output = {"y", false, "float32", {-1, 10}, "linear", true};
  EXPECT_EQ(infer::report_json(report), R"({
  "program": "trt8_infer",
  "tensorrt": "8.6.0",
  "library": "nvinfer_lean",
  "device": "a GPU",
  "plan": "m.plan",
  "samples": 100,
  "batch": 32,
  "streams": 8,
  "graphs": true,
  "copiers": 4,
  "repeat": 2,
  "copies": {"host_to_device": 4, "device_to_host": 4},
  "samples_per_second": 2000,
  "passes": [1000.5, 2000],
  "latency_ms": {"p50": 2, "p90": 4, "p99": 4},
  "load_seconds": 0.5,
  "read_seconds": 0.25,
  "write_seconds": 0.125,
  "fed_sha256": "ab",
  "input": {"name": "x", "shape": [-1, 2, 3], "dtype": "float32"},
  "output": {"name": "y", "shape": [-1, 10], "dtype": "float32"}
}
)");
}
