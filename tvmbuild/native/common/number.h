// Numbers in texts, read with a check of their range and alike in every locale.
//
// std::from_chars for whole numbers is code in a header: strtol and sscanf would be bound to GLIBC_2.38 by the headers
// of newer systems, and from_chars for a double to a newer libstdc++ than a board may have.
#ifndef TVMBUILD_COMMON_NUMBER_H_
#define TVMBUILD_COMMON_NUMBER_H_

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <system_error>

namespace tvmbuild {

inline bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// The number at the start of a text, which may go on with anything else: "1500000\n". None without a digit, with a
// sign, or beyond `most`.
inline std::optional<int64_t> LeadingNumber(std::string_view text, int64_t most, int base = 10) {
  int64_t value = 0;
  if (text.empty() || text.front() == '-') return std::nullopt;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  (void)end;
  if (error != std::errc() || value > most) return std::nullopt;
  return value;
}

// A text that is a number in decimal digits and nothing else. None when it is not, or not from `least` to `most`.
inline std::optional<int64_t> WholeNumber(std::string_view text, int64_t least, int64_t most) {
  for (const char c : text) {
    if (!IsDigit(c)) return std::nullopt;
  }
  const std::optional<int64_t> value = LeadingNumber(text, most);
  return value && *value >= least ? value : std::nullopt;
}

// A text that is digits, with or without a point and digits behind it, and nothing else: "0", "12.5". None when it is
// not, or longer than 20 characters.
inline std::optional<double> DecimalNumber(std::string_view text) {
  constexpr size_t kLongest = 20;
  if (text.empty() || text.size() > kLongest || !IsDigit(text.front()) || !IsDigit(text.back())) return std::nullopt;
  double value = 0, unit = 1;
  bool behind_point = false;
  for (const char c : text) {
    if (c == '.' && !behind_point) {
      behind_point = true;
    } else if (!IsDigit(c)) {
      return std::nullopt;
    } else if (behind_point) {
      unit /= 10;
      value += (c - '0') * unit;
    } else {
      value = value * 10 + (c - '0');
    }
  }
  return value;
}

}  // namespace tvmbuild

#endif  // TVMBUILD_COMMON_NUMBER_H_
