#include "runtime/memory.h"

#include <cstdio>
#include <string_view>

#include "common/file.h"
#include "common/number.h"

namespace tvmbuild {

uint64_t PeakResidentBytes() {
  constexpr std::string_view kField = "VmHWM:";
  constexpr int64_t kMostKib = int64_t{1} << 50;
  const File file = OpenFile("/proc/self/status", "r");
  if (file == nullptr) return 0;
  char line[256];
  while (std::fgets(line, sizeof(line), file.get()) != nullptr) {
    const std::string_view text = line;
    if (text.substr(0, kField.size()) != kField) continue;
    const size_t start = text.find_first_not_of(" \t", kField.size());
    if (start == std::string_view::npos) return 0;
    return static_cast<uint64_t>(LeadingNumber(text.substr(start), kMostKib).value_or(0)) * 1024;
  }
  return 0;
}

}  // namespace tvmbuild
