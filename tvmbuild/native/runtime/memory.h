// How much memory this process has used.
#ifndef TVMBUILD_RUNTIME_MEMORY_H_
#define TVMBUILD_RUNTIME_MEMORY_H_

#include <cstdint>

namespace tvmbuild {

// Largest resident set of this process so far (VmHWM), in bytes; 0 when the kernel does not tell.
uint64_t PeakResidentBytes();

}  // namespace tvmbuild

#endif  // TVMBUILD_RUNTIME_MEMORY_H_
