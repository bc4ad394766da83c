#include "runtime/function.h"

#include <exception>
#include <memory>

namespace tvmbuild {
namespace {

int CallBack(void* self, const TVMFFIAny* arguments, int32_t count, TVMFFIAny* result) {
  try {
    *result = (*static_cast<Function*>(self))(Arguments{arguments, count}).Release();
    return 0;
  } catch (const std::exception& error) {
    TVMFFIErrorSetRaisedFromCStr("RuntimeError", error.what());
    return -1;
  }
}

}  // namespace

void Register(const std::string& name, Function function) {
  const TVMFFIByteArray bytes{name.data(), name.size()};
  TVMFFIObjectHandle handle = nullptr;
  auto owned = std::make_unique<Function>(std::move(function));
  if (TVMFFIFunctionCreate(
          owned.get(), CallBack, [](void* self) { delete static_cast<Function*>(self); }, &handle) != 0) {
    throw Failure(ExitCode::kServe, "cannot make " + name + ": " + RaisedMessage());
  }
  static_cast<void>(owned.release());  // The handle owns it now.
  const Value held = Object(handle);
  if (TVMFFIFunctionSetGlobal(&bytes, handle, 1) != 0) {
    throw Failure(ExitCode::kServe, "cannot register " + name + ": " + RaisedMessage());
  }
}

}  // namespace tvmbuild
