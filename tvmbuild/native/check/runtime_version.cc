#include "check/runtime_version.h"

#include <tvm/ffi/c_api.h>

#include <algorithm>

#include "check/bundle_facts.h"
#include "check/refusal.h"
#include "check/shared_library.h"

namespace tvmbuild {

std::vector<int> CheckRuntimeVersion(const std::string& folder, const std::vector<int>& needed) {
  const SharedLibrary library(folder + "/libtvm_ffi.so");
  if (!library.is_open()) throw Refusal("libtvm_ffi.so does not load on this system: " + library.error());
  auto* get_version = library.Find<decltype(TVMFFIGetVersion)>("TVMFFIGetVersion");
  if (get_version == nullptr) throw Refusal("libtvm_ffi.so does not tell its version");
  TVMFFIVersion found{};
  get_version(&found);
  const std::vector<int> version{static_cast<int>(found.major), static_cast<int>(found.minor),
                                 static_cast<int>(found.patch)};
  const bool same_series = needed.size() == 3 && version[0] == needed[0] && version[1] == needed[1];
  if (!same_series || version < needed) {
    const std::vector<int> series(needed.begin(),
                                  needed.begin() + static_cast<long>(std::min<size_t>(needed.size(), 2)));
    throw Refusal("libtvm_ffi.so is version " + VersionText(version) + "; this bundle needs " + VersionText(needed) +
                  " or a newer " + VersionText(series));
  }
  return version;
}

}  // namespace tvmbuild
