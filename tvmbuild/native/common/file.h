// Handles of the operating system that are given back when they go out of scope.
#ifndef TVMBUILD_COMMON_FILE_H_
#define TVMBUILD_COMMON_FILE_H_

#include <dirent.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <string>
#include <utility>

namespace tvmbuild {

// Owns a file descriptor.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~Descriptor() { Close(); }

  int number() const { return number_; }
  bool open() const { return number_ >= 0; }
  // Gives the descriptor away.
  int Release() { return std::exchange(number_, -1); }
  void Close() {
    if (open()) close(Release());
  }

 private:
  int number_ = -1;
};

struct FileCloser {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
struct FolderCloser {
  void operator()(DIR* folder) const { closedir(folder); }
};

// Null where there is none; errno then has the reason.
using File = std::unique_ptr<std::FILE, FileCloser>;
using Folder = std::unique_ptr<DIR, FolderCloser>;

inline File OpenFile(const std::string& path, const char* mode) { return File(std::fopen(path.c_str(), mode)); }

// A stream that reads from a descriptor, which becomes its own.
inline File OpenFile(Descriptor descriptor) {
  File file(descriptor.open() ? fdopen(descriptor.number(), "rb") : nullptr);
  if (file != nullptr) descriptor.Release();
  return file;
}

inline Folder OpenFolder(const std::string& path) { return Folder(opendir(path.c_str())); }

inline Folder OpenFolder(Descriptor descriptor) {
  Folder folder(descriptor.open() ? fdopendir(descriptor.number()) : nullptr);
  if (folder != nullptr) descriptor.Release();
  return folder;
}

}  // namespace tvmbuild

#endif  // TVMBUILD_COMMON_FILE_H_
