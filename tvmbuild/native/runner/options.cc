#include "runner/options.h"

#include "common/failure.h"
#include "common/number.h"

namespace tvmbuild {

const char kUsage[] =
    "usage: tvmbuild-runner LIB.so [--input a.npy]... [--output-dir DIR] [--repeat N] [--warmup N]\n"
    "                       [--threads N] [--json] [--markers [--cold]]\n"
    "       tvmbuild-runner serve --help\n"
    "\n"
    "Runs a model that tvmbuild compiled. Inputs are .npy files in the order of the model's inputs;\n"
    "outputs become DIR/output_0.npy, DIR/output_1.npy, ... The folder must exist.\n"
    "\n"
    "  --input FILE      one input; once for each input of the model\n"
    "  --output-dir DIR  where to write the outputs (none are written without it)\n"
    "  --repeat N        timed runs (1)\n"
    "  --warmup N        runs before them that are not timed (0)\n"
    "  --threads N       threads that a kernel may use (all cores)\n"
    "  --json            print one line of JSON\n"
    "  --markers         mark the timed runs for tvmbuild's instruction counter; with --threads the tasks of\n"
    "                    a parallel loop run one after the other, so that the count repeats\n"
    "  --cold            let the counter's caches be empty before the timed runs\n"
    "\n"
    "exit codes: 2 usage, 3 library, 4 input, 5 run, 6 output, 7 serve\n";

int ParseNumber(const std::string& flag, const std::string& text, int least, int most) {
  const std::optional<int64_t> value = WholeNumber(text, least, most);
  if (!value) {
    throw Failure(ExitCode::kUsage, flag + " takes a whole number from " + std::to_string(least) + " to " +
                                        std::to_string(most) + ", not '" + text + "'");
  }
  return static_cast<int>(*value);
}

Options ParseOptions(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    const auto value = [&]() -> std::string {
      if (i + 1 == argc) throw Failure(ExitCode::kUsage, flag + " needs a value");
      return argv[++i];
    };
    if (flag == "--input") {
      options.inputs.push_back(value());
    } else if (flag == "--output-dir") {
      options.output_dir = value();
    } else if (flag == "--repeat") {
      options.repeat = ParseNumber(flag, value(), 1, kMostRuns);
    } else if (flag == "--warmup") {
      options.warmup = ParseNumber(flag, value(), 0, kMostRuns);
    } else if (flag == "--threads") {
      options.threads = ParseNumber(flag, value(), 1, kMostThreads);
    } else if (flag == "--json") {
      options.json = true;
    } else if (flag == "--markers") {
      options.markers = true;
    } else if (flag == "--cold") {
      options.cold = true;
    } else if (flag == "--help" || flag == "-h") {
      options.help = true;
    } else if (flag.rfind('-', 0) == 0) {
      throw Failure(ExitCode::kUsage, "unknown option " + flag);
    } else if (options.library.empty()) {
      options.library = flag;
    } else {
      throw Failure(ExitCode::kUsage, "more than one library: " + options.library + " and " + flag);
    }
  }
  if (options.cold && !options.markers) throw Failure(ExitCode::kUsage, "--cold needs --markers");
  if (options.library.empty() && !options.help) throw Failure(ExitCode::kUsage, "no library given");
  return options;
}

}  // namespace tvmbuild
