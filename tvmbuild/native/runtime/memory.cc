#include "runtime/memory.h"

#include <cstdio>
#include <cstring>

namespace tvmbuild {

uint64_t PeakResidentBytes() {
  std::FILE* file = std::fopen("/proc/self/status", "r");
  if (file == nullptr) return 0;
  uint64_t kib = 0;
  char line[256];
  while (std::fgets(line, sizeof(line), file) != nullptr) {
    if (std::strncmp(line, "VmHWM:", 6) != 0) continue;
    // Digits by hand: strtoull and sscanf are bound to GLIBC_2.38 by the headers of newer systems.
    for (const char* at = line + 6; *at != '\0'; ++at) {
      if (*at >= '0' && *at <= '9') kib = kib * 10 + static_cast<uint64_t>(*at - '0');
    }
    break;
  }
  std::fclose(file);
  return kib * 1024;
}

}  // namespace tvmbuild
