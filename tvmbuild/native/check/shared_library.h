// A shared library that is opened by name, if it is there.
#ifndef TVMBUILD_CHECK_SHARED_LIBRARY_H_
#define TVMBUILD_CHECK_SHARED_LIBRARY_H_

#include <string>

namespace tvmbuild {

class SharedLibrary {
 public:
  explicit SharedLibrary(const std::string& name);
  ~SharedLibrary();
  SharedLibrary(const SharedLibrary&) = delete;
  SharedLibrary& operator=(const SharedLibrary&) = delete;

  bool is_open() const { return handle_ != nullptr; }

  // Why it is not open, in the loader's words.
  const std::string& error() const { return error_; }

  // A function of this type, or nullptr.
  template <typename Function>
  Function* Find(const char* name) const {
    return reinterpret_cast<Function*>(Symbol(name));
  }

 private:
  void* Symbol(const char* name) const;

  void* handle_;
  std::string error_;
};

}  // namespace tvmbuild

#endif  // TVMBUILD_CHECK_SHARED_LIBRARY_H_
