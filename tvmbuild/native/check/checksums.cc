#include "check/checksums.h"

#include <fcntl.h>

#include <algorithm>
#include <set>

#include "check/refusal.h"
#include "check/sha256.h"
#include "check/text_file.h"
#include "common/file.h"

namespace tvmbuild {
namespace {

constexpr char kName[] = "SHA256SUMS";
constexpr size_t kDigits = 64;
constexpr int kDeepest = 8;

bool IsInside(const std::string& path) {
  if (path.empty() || path.front() == '/') return false;
  for (size_t start = 0; start <= path.size();) {
    const size_t end = std::min(path.find('/', start), path.size());
    const std::string part = path.substr(start, end - start);
    if (part.empty() || part == "." || part == "..") return false;
    start = end + 1;
  }
  return true;
}

// Opens a folder; null for anything else, a link to a folder among it.
Folder OpenRealFolder(const std::string& path) {
  return OpenFolder(Descriptor(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)));
}

// Adds every file below an open folder to `found`, with `below` before its name.
void List(const Folder& folder, const std::string& path, const std::string& below, int depth,
          std::set<std::string>* found) {
  while (const dirent* entry = readdir(folder.get())) {
    const std::string name = entry->d_name;
    if (name == "." || name == "..") continue;
    const Folder inner = depth < kDeepest ? OpenRealFolder(path + "/" + name) : nullptr;
    if (inner != nullptr) {
      List(inner, path + "/" + name, below + name + "/", depth + 1, found);
    } else {
      found->insert(below + name);
    }
  }
}

}  // namespace

std::vector<Checksum> ParseChecksums(const std::string& text) {
  std::vector<Checksum> entries;
  for (const std::string& line : Lines(text)) {
    const bool is_digest = line.size() > kDigits + 2 && std::all_of(line.begin(), line.begin() + kDigits, [](char c) {
                             return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
                           });
    if (!is_digest || line.compare(kDigits, 2, "  ") != 0)
      throw Refusal("SHA256SUMS is damaged: a line has another form");
    Checksum entry{line.substr(0, kDigits), line.substr(kDigits + 2)};
    if (!IsInside(entry.path)) throw Refusal("SHA256SUMS is damaged: it names a file outside the bundle");
    entries.push_back(std::move(entry));
  }
  if (!text.empty() && text.back() != '\n') throw Refusal("SHA256SUMS is damaged: it was cut off within a line");
  if (entries.empty()) throw Refusal("SHA256SUMS is damaged: it names no file");
  return entries;
}

size_t CheckChecksums(const std::string& folder) {
  const std::vector<Checksum> entries = ParseChecksums(ReadTextFile(folder + "/" + kName));
  std::set<std::string> unknown;
  const Folder top = OpenRealFolder(folder);
  if (top == nullptr) throw Refusal("the folder " + folder + " cannot be read");
  List(top, folder, "", 0, &unknown);
  unknown.erase(kName);
  unknown.erase(std::string(kName) + ".sig");
  std::string problems;
  for (const Checksum& entry : entries) {
    const std::string separator = problems.empty() ? "" : "; ";
    if (unknown.erase(entry.path) == 0) {
      problems += separator + entry.path + " is missing";
    } else if (Sha256OfFile(folder + "/" + entry.path) != entry.digest) {
      problems += separator + entry.path + " is damaged or was replaced: its SHA-256 is not the one in SHA256SUMS";
    }
  }
  for (const std::string& path : unknown) {
    problems += (problems.empty() ? "" : "; ") + path + " is not listed in SHA256SUMS";
  }
  if (!problems.empty()) throw Refusal(problems);
  return entries.size();
}

}  // namespace tvmbuild
