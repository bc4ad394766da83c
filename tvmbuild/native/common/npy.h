// Reading and writing of NumPy's .npy files, format versions 1.0 to 3.0.
// Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
#ifndef TVMBUILD_COMMON_NPY_H_
#define TVMBUILD_COMMON_NPY_H_

#include <dlpack/dlpack.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

namespace tvmbuild {

// What the header of a .npy file says.
struct NpyHeader {
  DLDataType dtype{};
  std::vector<int64_t> shape;
  size_t data_offset = 0;  // where the elements start, in bytes from the start of the file
  size_t data_bytes = 0;   // size of all elements, in bytes
};

struct FreeDeleter {
  void operator()(void* data) const { std::free(data); }
};

// A C-contiguous array in memory that is aligned as TVM's kernels require.
struct NpyArray {
  DLDataType dtype{};
  std::vector<int64_t> shape;
  size_t bytes = 0;
  std::unique_ptr<void, FreeDeleter> data;
};

// TVM's kernels assume this alignment of their arguments, in bytes.
constexpr size_t kAlignment = 64;

// NumPy's description of a data type ("<f4"), or "" for one that .npy cannot hold.
std::string NpyDescription(DLDataType dtype);

// Parses the start of a .npy file from `size` bytes. `file_size` is the size of the whole file, which has to be
// exactly header and elements. Throws Failure(kInput) with a message that does not name the file.
NpyHeader ParseNpyHeader(const unsigned char* bytes, size_t size, uint64_t file_size);

// Reads a whole file. Throws Failure(kInput), naming the file.
NpyArray ReadNpy(const std::string& path);

// Writes C-contiguous elements. Throws Failure(kOutput), naming the file.
void WriteNpy(const std::string& path, DLDataType dtype, const std::vector<int64_t>& shape, const void* data);

// Size of an array in bytes. Throws Failure(kInput) when it does not fit 63 bits or a size is negative.
size_t ByteSize(DLDataType dtype, const std::vector<int64_t>& shape);

}  // namespace tvmbuild

#endif  // TVMBUILD_COMMON_NPY_H_
