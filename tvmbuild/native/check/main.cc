// tvmbuild-check: whether a bundle is whole and fits this board. Of the runtime libraries it loads libtvm_ffi.so alone,
// to ask for its version, and not before all that can be judged without it.

#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "check/board_fit.h"
#include "check/bundle_facts.h"
#include "check/checksums.h"
#include "check/golden.h"
#include "check/refusal.h"
#include "check/runtime_version.h"
#include "check/signature.h"
#include "check/text_file.h"
#include "common/printable.h"

namespace tvmbuild {
namespace {

constexpr int kRefused = 1;
constexpr int kUsageError = 2;

constexpr char kUsage[] =
    "usage: tvmbuild-check BUNDLE [--all] [--trust KEY.pem] [--pick] [--outputs DIR]\n"
    "\n"
    "Checks that a bundle of tvmbuild fits this board: architecture, CPU features, glibc, version of the runtime.\n"
    "\n"
    "  --all            check every file's SHA-256 too, and tell what was found\n"
    "  --trust KEY.pem  check every SHA-256, and that this key signed them\n"
    "  --pick           print nothing but the name of the library for this core\n"
    "  --outputs DIR    compare the outputs of a run on the golden inputs, and nothing else\n"
    "\n"
    "exit codes: 1 refused, 2 usage\n";

struct Arguments {
  std::string bundle, trusted_key, outputs;
  bool all = false;
  bool pick = false;
};

bool Parse(int argc, char** argv, Arguments* arguments) {
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--all") {
      arguments->all = true;
    } else if (word == "--pick") {
      arguments->pick = true;
    } else if ((word == "--trust" || word == "--outputs") && i + 1 < argc) {
      (word == "--trust" ? arguments->trusted_key : arguments->outputs) = argv[++i];
    } else if (arguments->bundle.empty() && word.rfind('-', 0) != 0) {
      arguments->bundle = word;
    } else {
      return false;
    }
  }
  return !arguments->bundle.empty();
}

void Check(const Arguments& arguments) {
  // One line on each step, except where the caller wants a name alone.
  const auto say = [&](const std::string& line) {
    if (!arguments.pick) std::printf("%s\n", Printable(line).c_str());
  };
  if (!arguments.trusted_key.empty()) {
    CheckSignature(arguments.bundle, arguments.trusted_key);
    say("signature: valid");
  }
  if (arguments.all || !arguments.trusted_key.empty()) {
    say("files: all " + std::to_string(CheckChecksums(arguments.bundle)) + " have the SHA-256 in SHA256SUMS");
  }
  const BundleFacts facts = ParseBundleFacts(ReadTextFile(arguments.bundle + "/bundle.conf"));
  if (!arguments.outputs.empty()) {
    char worst[32];
    std::snprintf(worst, sizeof(worst), "%.1e", CheckOutputs(arguments.bundle, PickLibrary(facts), arguments.outputs));
    say("outputs: as the golden ones, to " + std::string(worst) + " of the largest value");
    return;
  }
  const std::string board = CheckBoard(facts);
  const Library& library = PickLibrary(facts);
  const std::vector<int> runtime = CheckRuntimeVersion(arguments.bundle, facts.tvm_ffi);
  if (arguments.pick) std::printf("%s\n", library.name.c_str());
  if (arguments.all) {
    say("board: " + board + "; library " + library.name);
    say("runtime: tvm-ffi " + VersionText(runtime));
  }
}

}  // namespace
}  // namespace tvmbuild

int main(int argc, char** argv) {
  tvmbuild::Arguments arguments;
  if (!tvmbuild::Parse(argc, argv, &arguments)) {
    std::fputs(tvmbuild::kUsage, stderr);
    return tvmbuild::kUsageError;
  }
  try {
    tvmbuild::Check(arguments);
    return std::fflush(stdout) == 0 ? 0 : tvmbuild::kRefused;
  } catch (const std::exception& refusal) {
    std::fflush(stdout);
    std::fprintf(stderr, "refused: %s\n", tvmbuild::Printable(refusal.what()).c_str());
    return tvmbuild::kRefused;
  }
}
