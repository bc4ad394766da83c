#include "check/shared_library.h"

#include <dlfcn.h>

// glibc 2.34 moved these functions from libdl to libc under a new version; every glibc still has the old one. zig,
// which links for an old glibc by itself, knows the old one alone.
#if !defined(TVMBUILD_LINKS_OLD_GLIBC)
#if defined(__aarch64__)
#define TVMBUILD_OLD "GLIBC_2.17"
#else
#define TVMBUILD_OLD "GLIBC_2.2.5"
#endif
__asm__(".symver dlopen, dlopen@" TVMBUILD_OLD);
__asm__(".symver dlsym, dlsym@" TVMBUILD_OLD);
__asm__(".symver dlclose, dlclose@" TVMBUILD_OLD);
__asm__(".symver dlerror, dlerror@" TVMBUILD_OLD);
#endif

namespace tvmbuild {

SharedLibrary::SharedLibrary(const std::string& name) : handle_(dlopen(name.c_str(), RTLD_LAZY | RTLD_LOCAL)) {
  const char* const error = handle_ == nullptr ? dlerror() : nullptr;
  if (error != nullptr) error_ = error;
}

SharedLibrary::~SharedLibrary() {
  if (handle_ != nullptr) dlclose(handle_);
}

void* SharedLibrary::Symbol(const char* name) const { return handle_ == nullptr ? nullptr : dlsym(handle_, name); }

}  // namespace tvmbuild
