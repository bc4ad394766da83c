// The one exception of the check: why the bundle is refused, in words for people.
#ifndef TVMBUILD_CHECK_REFUSAL_H_
#define TVMBUILD_CHECK_REFUSAL_H_

#include <stdexcept>
#include <string>

namespace tvmbuild {

class Refusal : public std::runtime_error {
 public:
  explicit Refusal(const std::string& reason) : std::runtime_error(reason) {}
};

}  // namespace tvmbuild

#endif  // TVMBUILD_CHECK_REFUSAL_H_
