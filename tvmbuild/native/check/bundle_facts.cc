#include "check/bundle_facts.h"

#include <algorithm>

#include "check/refusal.h"
#include "check/text_file.h"
#include "common/number.h"

namespace tvmbuild {
namespace {

constexpr size_t kMostOutputs = 1024;
constexpr size_t kMostFeatures = 64;
constexpr size_t kMostLibraries = 64;
constexpr size_t kLongestValue = 1024;

[[noreturn]] void Damaged(const std::string& reason) { throw Refusal("bundle.conf is damaged: " + reason); }

// A tolerance as tvmbuild writes it: "0", "0.0001".
double Tolerance(const std::string& text) {
  const std::optional<double> value = DecimalNumber(text);
  if (!value) Damaged("a tolerance is no number");
  return *value;
}

GoldenOutput Output(const std::string& value) {
  const size_t space = value.find(' ');
  if (space == std::string::npos) Damaged("an output has no tolerance");
  GoldenOutput output{value.substr(0, space), Tolerance(value.substr(space + 1))};
  if (output.path.find("..") != std::string::npos || output.path.rfind("golden/", 0) != 0) {
    Damaged("an output lies outside golden/");
  }
  return output;
}

void Take(const std::string& key, const std::string& value, BundleFacts* facts) {
  if (key == "name") {
    facts->name = value;
  } else if (key == "arch") {
    facts->arch = value;
  } else if (key == "library") {
    if (facts->libraries.size() == kMostLibraries) Damaged("it has too many libraries");
    if (value.find('/') != std::string::npos || value.front() == '.') Damaged("a library lies outside the bundle");
    facts->libraries.push_back({value, "", {}, {}});
  } else if ((key == "cpu" || key == "feature" || key == "output") && facts->libraries.empty()) {
    Damaged("a core or output comes before its library");
  } else if (key == "cpu") {
    facts->libraries.back().cpu = value;
  } else if (key == "feature") {
    std::vector<std::string>& features = facts->libraries.back().features;
    if (features.size() == kMostFeatures) Damaged("it asks for too many features");
    features.push_back(value);
  } else if (key == "glibc") {
    facts->glibc = ParseVersion(value);
  } else if (key == "tvm-ffi") {
    facts->tvm_ffi = ParseVersion(value);
  } else if (key == "output") {
    std::vector<GoldenOutput>& outputs = facts->libraries.back().outputs;
    if (outputs.size() == kMostOutputs) Damaged("it has too many outputs");
    outputs.push_back(Output(value));
  } else {
    Damaged("it has an unknown line");
  }
}

}  // namespace

std::vector<int> ParseVersion(const std::string& text) {
  std::vector<int> version(1, 0);
  bool has_digit = false;
  for (const char c : text) {
    if (c == '.' && has_digit && version.size() < 4) {
      version.push_back(0);
      has_digit = false;
    } else if (IsDigit(c) && version.back() < 100000) {
      version.back() = version.back() * 10 + (c - '0');
      has_digit = true;
    } else {
      throw Refusal("a version is not made of numbers");
    }
  }
  if (!has_digit) throw Refusal("a version is not made of numbers");
  return version;
}

std::string VersionText(const std::vector<int>& version) {
  std::string text;
  for (const int part : version) text += (text.empty() ? "" : ".") + std::to_string(part);
  return text;
}

BundleFacts ParseBundleFacts(const std::string& text) {
  const std::vector<std::string> lines = Lines(text);
  if (lines.empty() || lines.front() != "tvmbuild-bundle 1") Damaged("it is of another version");
  BundleFacts facts;
  for (size_t i = 1; i < lines.size(); ++i) {
    const size_t space = lines[i].find(' ');
    if (space == std::string::npos || space + 1 == lines[i].size() || lines[i].size() > kLongestValue) Damaged("a line is no key and value");
    Take(lines[i].substr(0, space), lines[i].substr(space + 1), &facts);
  }
  const bool are_whole = std::all_of(facts.libraries.begin(), facts.libraries.end(),
                                     [](const Library& one) { return !one.cpu.empty() && !one.outputs.empty(); });
  if (facts.name.empty() || facts.arch.empty() || facts.libraries.empty() || !are_whole || facts.glibc.empty() ||
      facts.tvm_ffi.empty()) {
    Damaged("a line is missing");
  }
  return facts;
}

}  // namespace tvmbuild
