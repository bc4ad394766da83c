#include "runtime/machine.h"

#include <elf.h>
#include <sys/utsname.h>

#include <cstdio>
#include <cstring>

#include "common/failure.h"
#include "common/file.h"

namespace tvmbuild {
namespace {

#if defined(__aarch64__)
constexpr int kOurs = EM_AARCH64;
#elif defined(__x86_64__)
constexpr int kOurs = EM_X86_64;
#else
#error "the ELF number of this architecture is not known"
#endif

// As in `uname -m`.
std::string Name(int machine) {
  switch (machine) {
    case EM_AARCH64: return "aarch64";
    case EM_X86_64: return "x86_64";
    case EM_ARM: return "32-bit ARM";
    case EM_RISCV: return "riscv";
    default: return "another machine (ELF number " + std::to_string(machine) + ")";
  }
}

}  // namespace

void RequireThisMachine(const std::string& path) {
  const File file = OpenFile(path, "rb");
  if (file == nullptr) return;
  // The fields up to the machine are the same in files of 32 and 64 bits.
  Elf32_Ehdr header{};
  const size_t size = std::fread(&header, 1, sizeof(header), file.get());
  if (size < sizeof(header) || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_machine == kOurs) return;
  utsname system{};
  uname(&system);
  throw Failure(ExitCode::kLibrary, "the library is for " + Name(header.e_machine) + ", but this is " + system.machine);
}

}  // namespace tvmbuild
