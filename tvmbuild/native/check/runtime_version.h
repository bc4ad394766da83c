// The version of the runtime library's interface.
#ifndef TVMBUILD_CHECK_RUNTIME_VERSION_H_
#define TVMBUILD_CHECK_RUNTIME_VERSION_H_

#include <string>
#include <vector>

namespace tvmbuild {

// Loads libtvm_ffi.so from `folder` and returns its version. Throws Refusal when it does not load, is older than
// `needed` or of another series (first two numbers).
std::vector<int> CheckRuntimeVersion(const std::string& folder, const std::vector<int>& needed);

}  // namespace tvmbuild

#endif  // TVMBUILD_CHECK_RUNTIME_VERSION_H_
