#include "text_file.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "refusal.h"

namespace tvmbuild {

std::string ReadTextFile(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) throw Refusal(path + " cannot be read: " + std::strerror(errno));
  std::string text(kLargestText + 1, '\0');
  text.resize(std::fread(&text[0], 1, text.size(), file));
  const bool failed = std::ferror(file) != 0;
  std::fclose(file);
  if (failed) throw Refusal(path + " cannot be read to its end");
  if (text.size() > kLargestText) throw Refusal(path + " is larger than any real one");
  return text;
}

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t start = 0; start < text.size();) {
    const size_t end = std::min(text.find('\n', start), text.size());
    if (end > start) lines.push_back(text.substr(start, end - start));
    start = end + 1;
  }
  return lines;
}

}  // namespace tvmbuild
