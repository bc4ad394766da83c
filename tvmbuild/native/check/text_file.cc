#include "check/text_file.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "check/refusal.h"
#include "common/file.h"

namespace tvmbuild {

bool IsPlainFile(int descriptor) {
  // fstat is another symbol since glibc 2.33; this one is in every glibc that we promise.
  struct statx facts;
  return statx(descriptor, "", AT_EMPTY_PATH, STATX_TYPE, &facts) == 0 && S_ISREG(facts.stx_mode);
}

std::string ReadTextFile(const std::string& path, Links links) {
  const int flags = O_RDONLY | O_NONBLOCK | O_CLOEXEC | (links == Links::kRefused ? O_NOFOLLOW : 0);
  Descriptor descriptor(open(path.c_str(), flags));
  if (!descriptor.open() && errno != ELOOP) throw Refusal(path + " cannot be read: " + std::strerror(errno));
  if (!descriptor.open() || !IsPlainFile(descriptor.number()))
    throw Refusal(path + " cannot be read: it is no plain file");
  const File file = OpenFile(std::move(descriptor));
  if (file == nullptr) throw Refusal(path + " cannot be read: " + std::strerror(errno));
  std::string text(kLargestText + 1, '\0');
  text.resize(std::fread(&text[0], 1, text.size(), file.get()));
  if (std::ferror(file.get()) != 0) throw Refusal(path + " cannot be read to its end");
  if (text.size() > kLargestText) throw Refusal(path + " is larger than any real one");
  return text;
}

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t start = 0; start < text.size();) {
    const size_t end = std::min(text.find('\n', start), text.size());
    lines.push_back(text.substr(start, end - start));
    start = end + 1;
  }
  return lines;
}

}  // namespace tvmbuild
