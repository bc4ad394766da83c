// Small text files, read whole.
#ifndef TVMBUILD_CHECK_TEXT_FILE_H_
#define TVMBUILD_CHECK_TEXT_FILE_H_

#include <cstddef>
#include <string>
#include <vector>

namespace tvmbuild {

// Larger files than this are none of a bundle's, in bytes.
constexpr size_t kLargestText = 1 << 20;

// Whether it is neither a folder nor a pipe, device or socket, which could keep us reading for ever.
bool IsPlainFile(int descriptor);

// A file of a bundle may be no link, which leads to something else the next time; one of the board's owner may.
enum class Links { kRefused, kFollowed };

// Throws Refusal, naming the file, when it cannot be read, is too large or no plain file: a pipe would keep us waiting.
std::string ReadTextFile(const std::string& path, Links links = Links::kRefused);

// The lines without their ends, empty ones too. What follows the last end is a line if there is something.
std::vector<std::string> Lines(const std::string& text);

}  // namespace tvmbuild

#endif  // TVMBUILD_CHECK_TEXT_FILE_H_
