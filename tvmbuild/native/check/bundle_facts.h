// What a bundle needs of its board: bundle.conf, one "<key> <value>" a line, by the grammar in docs/release.md.
#ifndef TVMBUILD_CHECK_BUNDLE_FACTS_H_
#define TVMBUILD_CHECK_BUNDLE_FACTS_H_

#include <string>
#include <vector>

namespace tvmbuild {

struct GoldenOutput {
  std::string path;      // relative to the bundle
  double tolerance = 0;  // largest difference, relative to the largest value
};

// The model, compiled for one core.
struct Library {
  std::string name;                   // of the file, without ".so"
  std::string cpu;                    // LLVM's name of the core
  std::vector<std::string> features;  // LLVM's names of instruction set extensions
  std::vector<GoldenOutput> outputs;  // of this library on the golden inputs
};

struct BundleFacts {
  std::string name;
  std::string arch;                // as in uname -m
  std::vector<Library> libraries;  // at least one
  std::vector<int> glibc;          // oldest that every program and library here loads on
  std::vector<int> tvm_ffi;        // version of the runtime's interface
};

// Parses the text of bundle.conf. Throws Refusal.
BundleFacts ParseBundleFacts(const std::string& text);

// "2.31" as {2, 31}. Throws Refusal for anything but up to four numbers of at most six digits.
std::vector<int> ParseVersion(const std::string& text);

std::string VersionText(const std::vector<int>& version);

}  // namespace tvmbuild

#endif  // TVMBUILD_CHECK_BUNDLE_FACTS_H_
