// libFuzzer target: the check's readers of bundle.conf and SHA256SUMS take any bytes, or refuse them.

#include <cstddef>
#include <cstdint>
#include <string>

#include "check/bundle_facts.h"
#include "check/checksums.h"
#include "check/refusal.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  try {
    for (const tvmbuild::Library& library : tvmbuild::ParseBundleFacts(text).libraries) {
      if (library.outputs.empty()) __builtin_trap();
      for (const tvmbuild::GoldenOutput& output : library.outputs) {
        if (("/" + output.path + "/").find("/../") != std::string::npos || output.path.front() == '/') __builtin_trap();
      }
    }
  } catch (const tvmbuild::Refusal&) {
  }
  try {
    for (const tvmbuild::Checksum& entry : tvmbuild::ParseChecksums(text)) {
      if (entry.path.empty() || entry.path.front() == '/' || entry.path.find("../") == 0) __builtin_trap();
    }
  } catch (const tvmbuild::Refusal&) {
  }
  return 0;
}
