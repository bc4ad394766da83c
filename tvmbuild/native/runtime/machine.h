// Whether a library is for this kind of machine.
#ifndef TVMBUILD_RUNTIME_MACHINE_H_
#define TVMBUILD_RUNTIME_MACHINE_H_

#include <string>

namespace tvmbuild {

// Throws Failure(kLibrary) when a file is a library for another kind of machine, of which the loader would only say
// that there is no such file. What is no library at all is left to the loader.
void RequireThisMachine(const std::string& path);

}  // namespace tvmbuild

#endif  // TVMBUILD_RUNTIME_MACHINE_H_
