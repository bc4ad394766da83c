// SHA256SUMS, as sha256sum writes it: one "<64 hexadecimal digits>  <path>" a line.
#ifndef TVMBUILD_CHECK_CHECKSUMS_H_
#define TVMBUILD_CHECK_CHECKSUMS_H_

#include <string>
#include <vector>

namespace tvmbuild {

struct Checksum {
  std::string digest;
  std::string path;  // relative, inside the folder
};

// Parses the file's text. Throws Refusal for a line of another form, a path that leaves the folder, or none at all.
std::vector<Checksum> ParseChecksums(const std::string& text);

// Compares every file that SHA256SUMS in `folder` names, and looks for files that it does not name. Throws Refusal with
// the names of all that differ, are missing or do not belong there. Returns the number of files.
size_t CheckChecksums(const std::string& folder);

}  // namespace tvmbuild

#endif  // TVMBUILD_CHECK_CHECKSUMS_H_
