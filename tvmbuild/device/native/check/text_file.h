// Small text files, read whole.
#ifndef TVMBUILD_TEXT_FILE_H_
#define TVMBUILD_TEXT_FILE_H_

#include <cstddef>
#include <string>
#include <vector>

namespace tvmbuild {

// Larger files than this are none of a bundle's, in bytes.
constexpr size_t kLargestText = 1 << 20;

// Throws Refusal, naming the file, when it cannot be read or is too large.
std::string ReadTextFile(const std::string& path);

// The lines without their ends; empty ones are left out.
std::vector<std::string> Lines(const std::string& text);

}  // namespace tvmbuild

#endif  // TVMBUILD_TEXT_FILE_H_
