// How fast samples are read from CSV: read_csv_benchmark [samples [pixels]], five readings on one thread, each as MB/s
// of time passed and, in brackets, of this process's CPU time, which other work on the machine changes less.
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>

#include "samples.h"

int main(int argc, char** argv) {
  const int samples = argc > 1 ? std::atoi(argv[1]) : 4000;
  const int pixels = argc > 2 ? std::atoi(argv[2]) : 3072;
  if (samples < 1 || pixels < 1) {
    std::fprintf(stderr, "usage: read_csv_benchmark [samples [pixels]]; allowed: whole numbers from 1 on\n");
    return 2;
  }
  std::mt19937 random(1);  // NOLINT: the same file every time
  for (const bool bytes : {false, true}) {
    std::string name = (std::filesystem::temp_directory_path() / "read_csv_benchmark.XXXXXX").string();
    const int descriptor = mkstemp(name.data());
    if (descriptor < 0) {
      std::perror(name.c_str());
      return 2;
    }
    static_cast<void>(close(descriptor));
    {
      std::ofstream file(name);
      file << "sample_id";
      for (int i = 0; i < pixels; ++i) {
        file << ",pixel_" << i;
      }
      file << '\n';
      file.precision(9);
      std::uniform_real_distribution<float> value(0, 1);
      for (int s = 0; s < samples; ++s) {
        file << s;
        for (int i = 0; i < pixels; ++i) {
          file << ',';
          if (bytes) {
            file << random() % 256;
          } else {
            file << value(random);
          }
        }
        file << '\n';
      }
      if (!file.flush()) {
        std::fprintf(stderr, "%s: cannot be written\n", name.c_str());
        return 2;
      }
    }
    const double megabytes = static_cast<double>(std::filesystem::file_size(name)) / 1e6;
    const char* what = bytes ? "whole numbers to 255" : "nine digits";
    std::printf("%s, %d samples of %d, %.0f MB:", what, samples, pixels, megabytes);
    for (int i = 0; i < 5; ++i) {
      const auto start = std::chrono::steady_clock::now();
      const std::clock_t cpu = std::clock();
      const infer::Samples read = infer::read_csv(name);
      const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
      const double used = static_cast<double>(std::clock() - cpu) / CLOCKS_PER_SEC;
      std::printf(" %.0f (%.0f)", megabytes / seconds.count(), megabytes / used);
      if (read.count() != static_cast<std::size_t>(samples)) {
        return 1;
      }
    }
    std::printf(" MB/s\n");
    std::filesystem::remove(name);
  }
}
