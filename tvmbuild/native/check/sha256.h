// SHA-256 (FIPS 180-4). The one piece of cryptography here: the check has to run where nothing but libc is.
#ifndef TVMBUILD_CHECK_SHA256_H_
#define TVMBUILD_CHECK_SHA256_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace tvmbuild {

class Sha256 {
 public:
  void Update(const void* data, size_t size);
  // The digest in lower-case hexadecimal; nothing may be added afterwards.
  std::string Finish();

 private:
  void Block(const unsigned char* block);

  std::array<uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<unsigned char, 64> pending_{};
  size_t pending_size_ = 0;
  uint64_t total_ = 0;
};

// Digest of a file. Throws Refusal, naming the file, when it cannot be read.
std::string Sha256OfFile(const std::string& path);

}  // namespace tvmbuild

#endif  // TVMBUILD_CHECK_SHA256_H_
