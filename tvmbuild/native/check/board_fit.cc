#include "check/board_fit.h"

#include <gnu/libc-version.h>
#include <sys/auxv.h>
#include <sys/utsname.h>

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <cstdio>
#include <cstring>

#include "check/refusal.h"
#include "common/cores.h"
#include "common/file.h"

namespace tvmbuild {
namespace {

std::string Joined(const std::vector<std::string>& words) {
  std::string text;
  for (size_t i = 0; i < words.size(); ++i) text += (i == 0 ? "" : i + 1 == words.size() ? " and " : ", ") + words[i];
  return text;
}

#if defined(__aarch64__)

struct Feature {
  const char* name;    // LLVM's
  unsigned long flag;  // of AT_HWCAP (linux/Documentation/arch/arm64/elf_hwcaps.rst)
};
constexpr Feature kFeatures[] = {{"neon", 1UL << 1}, {"fullfp16", 1UL << 10}, {"dotprod", 1UL << 20}};
constexpr unsigned long kHasCpuId = 1UL << 11;

#else

// The flags of the first core in /proc/cpuinfo, with a space on both sides of each.
std::string CpuFlags() {
  const File file = OpenFile("/proc/cpuinfo", "r");
  if (file == nullptr) return "";
  std::string flags;
  char line[1 << 14];
  while (flags.empty() && std::fgets(line, sizeof(line), file.get()) != nullptr) {
    if (std::strncmp(line, "flags", 5) == 0) flags = line;
  }
  std::replace(flags.begin(), flags.end(), '\n', ' ');
  return flags;
}

#endif

}  // namespace

#if defined(__aarch64__)

std::string CoreName() {
  if ((getauxval(AT_HWCAP) & kHasCpuId) == 0) return "core that does not tell its name";
  uint64_t midr = 0;
  __asm__("mrs %0, midr_el1" : "=r"(midr));
  const unsigned implementer = (midr >> 24) & 0xff, part = (midr >> 4) & 0xfff;
  for (const KnownCore& core : kKnownCores) {
    if (implementer == kArmLimited && part == core.part) return core.name;
  }
  char text[64];
  std::snprintf(text, sizeof(text), "core with implementer 0x%02x and part 0x%03x", implementer, part);
  return text;
}

std::vector<std::string> MissingFeatures(const std::vector<std::string>& features) {
  const unsigned long flags = getauxval(AT_HWCAP);
  std::vector<std::string> missing;
  for (const std::string& name : features) {
    const Feature* known =
        std::find_if(std::begin(kFeatures), std::end(kFeatures), [&](const Feature& f) { return name == f.name; });
    if (known == std::end(kFeatures) || (flags & known->flag) == 0) missing.push_back(name);
  }
  return missing;
}

#else

std::string CoreName() { return "x86-64 core"; }

std::vector<std::string> MissingFeatures(const std::vector<std::string>& features) {
  const std::string flags = CpuFlags();
  std::vector<std::string> missing;
  for (const std::string& name : features) {
    if (flags.find(" " + name + " ") == std::string::npos) missing.push_back(name);
  }
  return missing;
}

#endif

std::string CheckBoard(const BundleFacts& facts) {
  utsname system{};
  uname(&system);
  if (facts.arch != system.machine) {
    throw Refusal("built for " + facts.arch + "; this is " + system.machine);
  }
  const std::vector<int> glibc = ParseVersion(gnu_get_libc_version());
  if (glibc < facts.glibc) {
    throw Refusal("needs glibc " + VersionText(facts.glibc) + " or newer; this system has " + VersionText(glibc));
  }
  return std::string(system.machine) + ", " + CoreName() + ", glibc " + VersionText(glibc);
}

const Library& PickLibrary(const BundleFacts& facts) {
  std::string core = CoreName();
  std::transform(core.begin(), core.end(), core.begin(), [](unsigned char c) { return std::tolower(c); });
  const Library* best = nullptr;
  std::string built_for;
  for (const Library& library : facts.libraries) {
    const std::vector<std::string> missing = MissingFeatures(library.features);
    if (!missing.empty()) {
      built_for += (built_for.empty() ? "" : ", or for ") + library.cpu + " with " + Joined(missing);
    } else if (library.cpu == core) {
      return library;
    } else if (best == nullptr || library.features.size() > best->features.size()) {
      best = &library;
    }
  }
  if (best == nullptr) throw Refusal("built for " + built_for + "; this is a " + CoreName());
  return *best;
}

}  // namespace tvmbuild
