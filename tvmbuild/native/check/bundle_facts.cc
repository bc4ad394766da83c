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
constexpr size_t kLongestWord = 100;

[[noreturn]] void Damaged(const std::string& reason) { throw Refusal("bundle.conf is damaged: " + reason); }

bool IsWord(const std::string& text) {
  const auto is_start = [](char c) { return IsDigit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  const auto follows = [&](char c) { return is_start(c) || c == '.' || c == '_' || c == '+' || c == '-'; };
  return !text.empty() && text.size() <= kLongestWord && is_start(text.front()) &&
         std::all_of(text.begin(), text.end(), follows);
}

// A tolerance as tvmbuild writes it: "0", "0.0001".
double Tolerance(const std::string& text) {
  constexpr size_t kMostDigits = 7, kMostBehindPoint = 12;
  const size_t whole = std::min(text.find('.'), text.size());
  const std::optional<double> value = DecimalNumber(text);
  if (!value || whole > kMostDigits || text.size() > whole + 1 + kMostBehindPoint) Damaged("a tolerance is no number");
  return *value;
}

GoldenOutput Output(const std::string& value) {
  const std::string golden = "golden/";
  const size_t space = value.find(' ');
  if (space == std::string::npos) Damaged("an output has no tolerance");
  const std::string path = value.substr(0, space);
  if (path.rfind(golden, 0) != 0) Damaged("an output lies outside golden/");
  const std::string below = path.substr(golden.size());
  const size_t slash = below.find('/');
  const bool has_folder = slash != std::string::npos;
  if (!IsWord(has_folder ? below.substr(slash + 1) : below) || (has_folder && !IsWord(below.substr(0, slash)))) {
    Damaged("an output lies outside golden/");
  }
  return {path, Tolerance(value.substr(space + 1))};
}

// Takes the lines one after the other, each of a key and a value. Grammar: docs/release.md.
class ConfLines {
 public:
  explicit ConfLines(const std::string& text) : lines_(Lines(text)) {
    if (lines_.empty() || lines_.front() != "tvmbuild-bundle 1") Damaged("it is of another version");
    if (text.back() != '\n') Damaged("it was cut off within a line");
  }

  bool at_end() const { return at_ == lines_.size(); }
  bool IsNext(const std::string& key) const { return !at_end() && lines_[at_].rfind(key + " ", 0) == 0; }

  std::string Value(const std::string& key) {
    if (!IsNext(key)) Damaged("line " + std::to_string(at_ + 1) + " is not one of '" + key + "'");
    return lines_[at_++].substr(key.size() + 1);
  }

  std::string Word(const std::string& key) {
    const std::string value = Value(key);
    if (!IsWord(value)) Damaged("line " + std::to_string(at_) + " has no word behind '" + key + "'");
    return value;
  }

 private:
  std::vector<std::string> lines_;
  size_t at_ = 1;
};

Library TakeLibrary(ConfLines* lines) {
  Library library{lines->Word("library"), lines->Word("cpu"), {}, {}};
  while (lines->IsNext("feature")) {
    if (library.features.size() == kMostFeatures) Damaged("it asks for too many features");
    library.features.push_back(lines->Word("feature"));
  }
  do {
    if (library.outputs.size() == kMostOutputs) Damaged("it has too many outputs");
    library.outputs.push_back(Output(lines->Value("output")));
  } while (lines->IsNext("output"));
  return library;
}

}  // namespace

std::vector<int> ParseVersion(const std::string& text) {
  constexpr size_t kMostParts = 4, kMostDigits = 6;
  std::vector<int> version;
  for (size_t start = 0; start <= text.size();) {
    const size_t end = std::min(text.find('.', start), text.size());
    const std::optional<int64_t> part = WholeNumber(std::string_view(text).substr(start, end - start), 0, 999999);
    if (!part || end - start > kMostDigits || version.size() == kMostParts)
      throw Refusal("a version is not made of numbers");
    version.push_back(static_cast<int>(*part));
    start = end + 1;
  }
  return version;
}

std::string VersionText(const std::vector<int>& version) {
  std::string text;
  for (const int part : version) text += (text.empty() ? "" : ".") + std::to_string(part);
  return text;
}

BundleFacts ParseBundleFacts(const std::string& text) {
  ConfLines lines(text);
  BundleFacts facts;
  facts.name = lines.Word("name");
  facts.arch = lines.Word("arch");
  facts.glibc = ParseVersion(lines.Value("glibc"));
  facts.tvm_ffi = ParseVersion(lines.Value("tvm-ffi"));
  do {
    if (facts.libraries.size() == kMostLibraries) Damaged("it has too many libraries");
    facts.libraries.push_back(TakeLibrary(&lines));
  } while (!lines.at_end());
  return facts;
}

}  // namespace tvmbuild
