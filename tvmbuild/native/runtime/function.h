// Functions of ours that the runtime and its clients can call by name.
#ifndef TVMBUILD_RUNTIME_FUNCTION_H_
#define TVMBUILD_RUNTIME_FUNCTION_H_

#include <cstdint>
#include <functional>
#include <string>

#include "runtime/value.h"

namespace tvmbuild {

struct Arguments {
  const TVMFFIAny* first;
  int32_t count;
};

// What it throws becomes an error of the runtime.
using Function = std::function<Value(const Arguments& arguments)>;

// Makes a function known to the runtime, in place of its own of that name. Throws Failure(kServe).
void Register(const std::string& name, Function function);

}  // namespace tvmbuild

#endif  // TVMBUILD_RUNTIME_FUNCTION_H_
