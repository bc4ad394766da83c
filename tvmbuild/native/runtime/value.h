// Values and calls of tvm-ffi through its C interface.
#ifndef TVMBUILD_RUNTIME_VALUE_H_
#define TVMBUILD_RUNTIME_VALUE_H_

#include <tvm/ffi/c_api.h>

#include <string>
#include <utility>
#include <vector>

#include "common/failure.h"

namespace tvmbuild {

// Owns one value of tvm-ffi.
class Value {
 public:
  Value() = default;
  explicit Value(TVMFFIAny any) : any_(any) {}
  Value(Value&& other) noexcept : any_(std::exchange(other.any_, TVMFFIAny{})) {}
  Value& operator=(Value&& other) noexcept {
    std::swap(any_, other.any_);
    return *this;
  }
  ~Value() {
    if (any_.type_index >= kTVMFFIStaticObjectBegin) TVMFFIObjectDecRef(any_.v_obj);
  }

  int32_t type() const { return any_.type_index; }
  const TVMFFIAny& any() const { return any_; }
  TVMFFIObject* object() const { return any_.v_obj; }
  // Gives the value away.
  TVMFFIAny Release() { return std::exchange(any_, TVMFFIAny{}); }

 private:
  TVMFFIAny any_{};
};

// Arguments of a call; the text has to outlive it.
TVMFFIAny Int(int64_t value);
TVMFFIAny Text(const char* text);
TVMFFIAny Boolean(bool value);

// Takes over a reference that the runtime gave.
Value Object(TVMFFIObjectHandle handle);

// The message of the error that the last call raised, with its kind. Of a failed check only the words are kept.
std::string RaisedMessage(std::string* kind = nullptr);

// Calls a function; throws Failure with `what` before the runtime's own words.
Value Call(const Value& function, std::vector<TVMFFIAny> arguments, ExitCode code, const std::string& what);

// A function that the runtime library registers. Throws Failure(kLibrary).
Value Global(const char* name);

}  // namespace tvmbuild

#endif  // TVMBUILD_RUNTIME_VALUE_H_
