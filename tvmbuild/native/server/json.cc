#include "server/json.h"

namespace tvmbuild {

std::string JsonText(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    const bool printable = c >= ' ' && c <= '~';
    quoted += printable ? c : '?';
  }
  return quoted + "\"";
}

void JsonMembers::Add(const std::string& name, const std::string& text) {
  if (!text.empty()) AddRaw(name, JsonText(text));
}

void JsonMembers::Add(const std::string& name, int64_t number) {
  if (number >= 0) AddRaw(name, std::to_string(number));
}

void JsonMembers::AddRaw(const std::string& name, const std::string& json) {
  members_ += (members_.empty() ? "" : ", ") + JsonText(name) + ": " + json;
}

}  // namespace tvmbuild
