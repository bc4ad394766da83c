// The runner's command line.
#ifndef TVMBUILD_RUNNER_OPTIONS_H_
#define TVMBUILD_RUNNER_OPTIONS_H_

#include <string>
#include <vector>

namespace tvmbuild {

struct Options {
  std::string library;
  std::vector<std::string> inputs;
  std::string output_dir;
  int repeat = 1;
  int warmup = 0;
  int threads = 0;  // 0 leaves it to the runtime
  bool json = false;
  bool markers = false;
  bool cold = false;
  bool help = false;
};

extern const char kUsage[];

constexpr int kMostRuns = 99999999;
constexpr int kMostThreads = 1024;

// The whole number that follows a flag. Throws Failure(kUsage) when it is none, or not from `least` to `most`.
int ParseNumber(const std::string& flag, const std::string& text, int least, int most);

// Throws Failure(kUsage).
Options ParseOptions(int argc, char** argv);

}  // namespace tvmbuild

#endif  // TVMBUILD_RUNNER_OPTIONS_H_
