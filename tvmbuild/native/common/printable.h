// Text from outside for a terminal, which would obey the control characters in it.
#ifndef TVMBUILD_COMMON_PRINTABLE_H_
#define TVMBUILD_COMMON_PRINTABLE_H_

#include <cstdio>
#include <string>

namespace tvmbuild {

// Returns the text with its control characters shown as "\x1b"; line breaks stay. UTF-8 has those of Latin-1 (U+0080 to
// U+009F), which some terminals obey, as two bytes.
inline std::string Printable(const std::string& text) {
  std::string shown;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const bool is_latin = byte == 0xc2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xa0;
    // One that continues no character of UTF-8 is a control character of a terminal for Latin-1.
    const bool is_alone = byte >= 0x80 && byte < 0xa0 && (i == 0 || static_cast<unsigned char>(text[i - 1]) < 0x80);
    if (byte == '\n' || (byte >= 0x20 && byte != 0x7f && !is_latin && !is_alone)) {
      shown += text[i];
      continue;
    }
    char escaped[8];
    std::snprintf(escaped, sizeof(escaped), "\\x%02x", is_latin ? static_cast<unsigned char>(text[++i]) : byte);
    shown += escaped;
  }
  return shown;
}

}  // namespace tvmbuild

#endif  // TVMBUILD_COMMON_PRINTABLE_H_
