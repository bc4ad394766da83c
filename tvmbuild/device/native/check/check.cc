// tvmbuild-check: whether a bundle is whole and fits this board. It loads none of the runtime libraries, so that it judges
// them before anything of theirs runs.

#include <cstdio>
#include <exception>
#include <string>

#include "board.h"
#include "bundle_facts.h"
#include "checksums.h"
#include "golden.h"
#include "refusal.h"
#include "runtime_version.h"
#include "signature.h"
#include "text_file.h"

namespace tvmbuild {
namespace {

constexpr int kRefused = 1;
constexpr int kUsageError = 2;

constexpr char kUsage[] =
    "usage: tvmbuild-check BUNDLE [--all] [--trust KEY.pem] [--outputs DIR]\n"
    "\n"
    "Checks that a bundle of tvmbuild fits this board: architecture, CPU features, glibc.\n"
    "\n"
    "  --all            check every file's SHA-256 and the runtime's version too\n"
    "  --trust KEY.pem  check every SHA-256, and that this key signed them\n"
    "  --outputs DIR    compare the outputs of a run on the golden inputs, and nothing else\n"
    "\n"
    "exit codes: 1 refused, 2 usage\n";

struct Arguments {
  std::string bundle, trusted_key, outputs;
  bool all = false;
};

bool Parse(int argc, char** argv, Arguments* arguments) {
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--all") {
      arguments->all = true;
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
  if (!arguments.trusted_key.empty()) {
    CheckSignature(arguments.bundle, arguments.trusted_key);
    std::printf("signature: valid\n");
  }
  if (arguments.all || !arguments.trusted_key.empty()) {
    std::printf("files: all %zu have the SHA-256 in SHA256SUMS\n", CheckChecksums(arguments.bundle));
  }
  const BundleFacts facts = ParseBundleFacts(ReadTextFile(arguments.bundle + "/bundle.conf"));
  if (!arguments.outputs.empty()) {
    std::printf("outputs: as the golden ones, to %.1e of the largest value\n",
                CheckOutputs(arguments.bundle, facts, arguments.outputs));
    return;
  }
  const std::string board = CheckBoard(facts);
  if (arguments.all) {
    std::printf("board: %s\n", board.c_str());
    std::printf("runtime: tvm-ffi %s\n", VersionText(CheckRuntimeVersion(arguments.bundle, facts.tvm_ffi)).c_str());
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
    std::fprintf(stderr, "refused: %s\n", refusal.what());
    return tvmbuild::kRefused;
  }
}
