// The little of JSON that is written here.
#ifndef TVMBUILD_SERVER_JSON_H_
#define TVMBUILD_SERVER_JSON_H_

#include <cstdint>
#include <string>

namespace tvmbuild {

// A string with its quotes; what is no ASCII becomes '?', since nothing here promises UTF-8.
std::string JsonText(const std::string& text);

// Collects the members of an object. Empty texts and negative numbers are left out: they mean "not known".
class JsonMembers {
 public:
  void Add(const std::string& name, const std::string& text);
  void Add(const std::string& name, int64_t number);
  void AddRaw(const std::string& name, const std::string& json);

  // `"a": 1, "b": "x"`, without braces.
  const std::string& members() const { return members_; }
  std::string Object() const { return "{" + members_ + "}"; }

 private:
  std::string members_;
};

}  // namespace tvmbuild

#endif  // TVMBUILD_SERVER_JSON_H_
