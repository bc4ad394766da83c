#include "runtime/value.h"

namespace tvmbuild {

TVMFFIAny Int(int64_t value) {
  TVMFFIAny any{};
  any.type_index = kTVMFFIInt;
  any.v_int64 = value;
  return any;
}

TVMFFIAny Text(const char* text) {
  TVMFFIAny any{};
  any.type_index = kTVMFFIRawStr;
  any.v_c_str = text;
  return any;
}

TVMFFIAny Boolean(bool value) {
  TVMFFIAny any = Int(value ? 1 : 0);
  any.type_index = kTVMFFIBool;
  return any;
}

Value Object(TVMFFIObjectHandle handle) {
  TVMFFIAny any{};
  any.type_index = TVMFFIObjectGetTypeIndex(handle);
  any.v_obj = static_cast<TVMFFIObject*>(handle);
  return Value(any);
}

// The message of the error that the last call raised, with its kind. Of a failed check only
// the words are kept, not its condition ("Check failed: a == b (1 vs. 2) : words", "Check failed: (c) is false:
// words").
std::string RaisedMessage(std::string* kind) {
  TVMFFIObjectHandle handle = nullptr;
  TVMFFIErrorMoveFromRaised(&handle);
  if (handle == nullptr) return "unknown error";
  const Value error = Object(handle);
  const TVMFFIErrorCell* cell = TVMFFIErrorGetCellPtr(handle);
  if (kind != nullptr) kind->assign(cell->kind.data, cell->kind.size);
  std::string message(cell->message.data, cell->message.size);
  if (message.rfind("Check failed: ", 0) != 0) return message;
  for (const std::string end : {" is false: ", ") : "}) {
    const size_t at = message.find(end);
    if (at != std::string::npos) return message.substr(at + end.size());
  }
  return message;
}

Value Call(const Value& function, std::vector<TVMFFIAny> arguments, ExitCode code, const std::string& what) {
  TVMFFIAny result{};
  const auto count = static_cast<int32_t>(arguments.size());
  if (TVMFFIFunctionCall(function.object(), arguments.data(), count, &result) != 0) {
    throw Failure(code, what + ": " + RaisedMessage());
  }
  return Value(result);
}

Value Global(const char* name) {
  const std::string text = name;
  const TVMFFIByteArray bytes{text.data(), text.size()};
  TVMFFIObjectHandle handle = nullptr;
  if (TVMFFIFunctionGetGlobal(&bytes, &handle) != 0 || handle == nullptr) {
    throw Failure(ExitCode::kLibrary, "the runtime library has no function " + text);
  }
  return Object(handle);
}

}  // namespace tvmbuild
