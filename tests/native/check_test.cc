// Tests of tvmbuild-check's parts. "check_test" runs them all; "check_test corrupt BUNDLE COUNT SEED" changes one byte
// at COUNT random places of a bundle, one after the other, and expects each to be refused with the file named.
// "check_test facts FILE..." reads each file as a bundle.conf and prints "accepted" or why not, a line each.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "check/board_fit.h"
#include "check/bundle_facts.h"
#include "check/checksums.h"
#include "check/golden.h"
#include "check/refusal.h"
#include "check/sha256.h"
#include "check/text_file.h"
#include "common/file.h"
#include "common/number.h"
#include "common/printable.h"

namespace {

using namespace tvmbuild;

int failures = 0;

void Expect(bool holds, const std::string& what) {
  if (holds) return;
  std::fprintf(stderr, "FAILED: %s\n", what.c_str());
  ++failures;
}

template <typename Call>
std::string RefusalOf(Call call) {
  try {
    call();
  } catch (const Refusal& refusal) {
    return refusal.what();
  }
  return "";
}

std::string Digest(const std::string& text, size_t piece) {
  Sha256 digest;
  for (size_t at = 0; at < text.size(); at += piece) digest.Update(text.data() + at, std::min(piece, text.size() - at));
  return digest.Finish();
}

// Vectors of FIPS 180-4's examples (csrc.nist.gov), whole and in pieces that do not fit the blocks.
void TestSha256() {
  for (const size_t piece : {1, 7, 63, 64, 65, 1000000}) {
    Expect(Digest("", piece) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
           "SHA-256 of nothing");
    Expect(Digest("abc", piece) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
           "SHA-256 of abc");
    Expect(Digest("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", piece) ==
               "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
           "SHA-256 of 56 bytes");
    Expect(
        Digest(std::string(1000000, 'a'), piece) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
        "SHA-256 of a million bytes");
  }
}

void TestChecksumLines() {
  const std::string digest(64, 'a');
  Expect(ParseChecksums(digest + "  a/b c\n" + digest + "  d\n").at(0).path == "a/b c", "a name with a space");
  for (const std::string& bad : {digest + "  a\n" + digest + "  b", digest + "  a\n\n" + digest + "  b\n",
                                 "\n" + digest + "  a\n", digest + "  a\n\n", std::string(), digest, digest + "  ",
                                 digest + "  /etc/passwd", digest + "  a/../../b", digest + "  a//b", digest + " *a",
                                 std::string(64, 'A') + "  a", digest + "  .", std::string(64, 'a') + "  a\nrest"}) {
    Expect(!RefusalOf([&] { ParseChecksums(bad); }).empty(), "refuse the checksum line '" + bad + "'");
  }
}

void TestFacts() {
  const std::string good =
      "tvmbuild-bundle 1\nname n\narch aarch64\nglibc 2.31\ntvm-ffi 0.1.14\n"
      "library n-a\ncpu cortex-a76\nfeature dotprod\noutput golden/n-a/output_0.npy 0.0001\n"
      "library n-b\ncpu cortex-a53\noutput golden/n-b/output_0.npy 0.02\n";
  const BundleFacts facts = ParseBundleFacts(good);
  Expect(facts.libraries.size() == 2 && facts.libraries[0].features == std::vector<std::string>{"dotprod"} &&
             facts.glibc == std::vector<int>{2, 31},
         "facts");
  const GoldenOutput& output = facts.libraries[0].outputs.at(0);
  Expect(output.tolerance > 0.99e-4 && output.tolerance < 1.01e-4 && output.path == "golden/n-a/output_0.npy",
         "output");
  Expect(facts.libraries[1].outputs.size() == 1, "each library has its outputs");
  // What a reader of keys in any order would take: a line that stands twice, or in another place.
  Expect(!RefusalOf([&] { ParseBundleFacts(good + "cpu cortex-a72\n"); }).empty(), "refuse a core that stands twice");
  Expect(!RefusalOf([&] { ParseBundleFacts(good.substr(0, good.size() - 1)); }).empty(),
         "refuse a tolerance that was cut off");
  for (const std::string& bad :
       {std::string(), std::string("tvmbuild-bundle 2\n"), good + "\n", good + "colour red\n", good + "word\n",
        good + "glibc 2..3\n", good + "glibc 99999999999\n", good + "output golden/../x 0\n", good + "output /x 0\n",
        good + "output golden/x 1e9\n", good + "output golden/x\n", good + "library ../x\ncpu a\n",
        good + "library x\n", good + "library x\ncpu a\n", good + "cpu \n",
        "tvmbuild-bundle 1\noutput golden/x 0\n" + good.substr(18), good.substr(0, 60)}) {
    Expect(!RefusalOf([&] { ParseBundleFacts(bad); }).empty(), "refuse the facts '" + bad + "'");
  }
}

NpyArray Floats(const std::vector<float>& values) {
  NpyArray array;
  array.dtype = {kDLFloat, 32, 1};
  array.shape = {static_cast<int64_t>(values.size())};
  array.bytes = values.size() * sizeof(float);
  array.data.reset(std::malloc(array.bytes + 1));
  std::memcpy(array.data.get(), values.data(), array.bytes);
  return array;
}

void TestDifference() {
  const float nan = NAN, infinite = INFINITY;
  Expect(RelativeDifference(Floats({nan, infinite, 2, -4}), Floats({nan, infinite, 2, -4})) == 0, "NaN is as NaN");
  Expect(RelativeDifference(Floats({1, -4}), Floats({1, -5})) == 0.25, "relative to the largest");
  Expect(std::isinf(RelativeDifference(Floats({1, 2}), Floats({1, nan}))), "NaN is no number");
  Expect(std::isinf(RelativeDifference(Floats({infinite}), Floats({-infinite}))), "the other infinity");
  Expect(!RefusalOf([] { RelativeDifference(Floats({1}), Floats({1, 2})); }).empty(), "another shape");
}

// A feature that no core has is missing everywhere.
void TestBoard() {
  Expect(MissingFeatures({"no-such-feature"}).size() == 1, "an unknown feature is missing");
  BundleFacts facts;
  facts.libraries = {{"new", "cortex-x", {"no-such-feature"}, {}}, {"old", "generic", {}, {}}};
  Expect(PickLibrary(facts).name == "old", "pick what runs");
  facts.libraries.pop_back();
  Expect(RefusalOf([&] { PickLibrary(facts); }).find("built for cortex-x with no-such-feature; this is a ") == 0,
         "none runs");
}

void TestPrintable() {
  Expect(Printable("a\x1b[2J\r\x7f b\n") == "a\\x1b[2J\\x0d\\x7f b\n",
         "control characters are shown, line breaks stay");
  Expect(Printable("\xc2\x9b"
                   "1m \x9b"
                   "2m") == "\\x9b1m \\x9b2m",
         "control characters of Latin-1 are shown");
  Expect(Printable("B\xc3\xbcndel \xe2\x80\x9e \xc3\x9f") == "B\xc3\xbcndel \xe2\x80\x9e \xc3\x9f", "letters stay");
}

void TestNumbers() {
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  Expect(WholeNumber("0", 0, 9) == 0 && WholeNumber("007", 0, 9) == 7, "whole numbers");
  Expect(WholeNumber("9223372036854775807", 0, kMost) == kMost, "the largest whole number");
  for (const char* bad :
       {"", "-1", "+1", " 1", "1 ", "1.0", "0x1", "1e3", "9223372036854775808", "99999999999999999999"}) {
    Expect(!WholeNumber(bad, 0, kMost), std::string("no whole number: '") + bad + "'");
  }
  Expect(WholeNumber("5", 5, 6) && WholeNumber("6", 5, 6) && !WholeNumber("4", 5, 6) && !WholeNumber("7", 5, 6),
         "a range");
  Expect(LeadingNumber("1500000\n", kMost) == 1500000 && LeadingNumber("d08", 0xfff, 16) == 0xd08, "leading numbers");
  Expect(!LeadingNumber("", kMost) && !LeadingNumber("x", kMost) && !LeadingNumber("-5", kMost), "no leading number");
  Expect(!LeadingNumber("4096", 4095) && !LeadingNumber("99999999999999999999 kB", kMost),
         "leading numbers out of range");
  Expect(DecimalNumber("12") == 12.0 && DecimalNumber("0.5") == 0.5, "decimal numbers");
  for (const char* bad : {"", ".", ".5", "5.", "1.2.3", "-1", "1e9", "nan", "inf", "0x1p3", "123456789012345678901"}) {
    Expect(!DecimalNumber(bad), std::string("no decimal number: '") + bad + "'");
  }
}

int Corrupt(const std::string& bundle, int count, unsigned seed) {
  std::vector<Checksum> entries = ParseChecksums(ReadTextFile(bundle + "/SHA256SUMS"));
  entries.push_back({"", "SHA256SUMS"});
  struct Place {
    std::string path;
    long size;
  };
  std::vector<Place> files;
  long total = 0;
  for (const Checksum& entry : entries) {
    const File file = OpenFile(bundle + "/" + entry.path, "rb");
    std::fseek(file.get(), 0, SEEK_END);
    files.push_back({entry.path, std::ftell(file.get())});
    total += files.back().size;
  }
  std::mt19937 random(seed);
  for (int i = 0; i < count; ++i) {
    // Every other place is in a file taken evenly, so that small files get their share.
    long at = std::uniform_int_distribution<long>(0, total - 1)(random);
    size_t chosen = 0;
    while (at >= files[chosen].size) at -= files[chosen++].size;
    if (i % 2 == 1) {
      chosen = std::uniform_int_distribution<size_t>(0, files.size() - 1)(random);
      at = std::uniform_int_distribution<long>(0, files[chosen].size - 1)(random);
    }
    const File file = OpenFile(bundle + "/" + files[chosen].path, "r+b");
    std::fseek(file.get(), at, SEEK_SET);
    const int before = std::fgetc(file.get());
    const int after = before ^ (1 << (random() % 8));
    std::fseek(file.get(), at, SEEK_SET);
    std::fputc(after, file.get());
    std::fflush(file.get());
    const std::string words = RefusalOf([&] { CheckChecksums(bundle); });
    // A damaged SHA256SUMS may say that another file differs: it is named with it.
    Expect(words.find(files[chosen].path) != std::string::npos,
           files[chosen].path + " at " + std::to_string(at) + ": " + words);
    std::fseek(file.get(), at, SEEK_SET);
    std::fputc(before, file.get());
  }
  Expect(RefusalOf([&] { CheckChecksums(bundle); }).empty(), "the bundle is whole again");
  std::printf("%d places\n", count);
  return failures;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 5 && std::strcmp(argv[1], "corrupt") == 0) {
    const std::optional<int64_t> count = WholeNumber(argv[3], 1, 1000000), seed = WholeNumber(argv[4], 0, 1000000);
    if (!count || !seed) return 2;
    return Corrupt(argv[2], static_cast<int>(*count), static_cast<unsigned>(*seed)) == 0 ? 0 : 1;
  }
  if (argc > 1 && std::strcmp(argv[1], "facts") == 0) {
    for (int i = 2; i < argc; ++i) {
      const std::string reason = RefusalOf([&] { ParseBundleFacts(ReadTextFile(argv[i])); });
      std::printf("%s\n", reason.empty() ? "accepted" : reason.c_str());
    }
    return 0;
  }
  TestSha256();
  TestChecksumLines();
  TestFacts();
  TestDifference();
  TestBoard();
  TestPrintable();
  TestNumbers();
  std::printf("%d failures\n", failures);
  return failures == 0 ? 0 : 1;
}
