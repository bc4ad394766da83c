// libFuzzer target: the runner's reader of .npy headers takes any bytes, or refuses them.

#include <cstddef>
#include <cstdint>

#include "common/failure.h"
#include "common/npy.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const tvmbuild::NpyHeader header = tvmbuild::ParseNpyHeader(data, size, size);
    // What is accepted must be within the file, or a read would leave it.
    if (header.data_offset > size || header.data_bytes != size - header.data_offset) __builtin_trap();
  } catch (const tvmbuild::Failure&) {
  }
  return 0;
}
