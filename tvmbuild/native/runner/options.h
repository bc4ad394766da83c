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
  bool help = false;
};

extern const char kUsage[];

// The whole number that follows a flag. Throws Failure(kUsage) when it is none, or less than `least`.
int ParseNumber(const std::string& flag, const std::string& text, int least);

// Throws Failure(kUsage).
Options ParseOptions(int argc, char** argv);

}  // namespace tvmbuild

#endif  // TVMBUILD_RUNNER_OPTIONS_H_
