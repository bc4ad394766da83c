#include "remote_functions.h"

#include <dirent.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>

#include "value.h"

namespace tvmbuild {
namespace {

using Function = std::function<Value(const std::string& argument)>;

Value TextValue(const std::string& text) {
  const TVMFFIByteArray bytes{text.data(), text.size()};
  TVMFFIAny any{};
  TVMFFIStringFromByteArray(&bytes, &any);
  return Value(any);
}

// The text of an argument: a client sends a C string, the runtime itself a string object.
std::string ArgumentText(const TVMFFIAny& any) {
  if (any.type_index == kTVMFFIRawStr) return any.v_c_str;
  TVMFFIByteArray bytes{};
  if (any.type_index == kTVMFFISmallStr) {
    bytes = TVMFFISmallBytesGetContentByteArray(&any);
  } else if (any.type_index == kTVMFFIStr) {
    bytes = *TVMFFIBytesGetByteArrayPtr(any.v_obj);
  } else {
    throw Failure(ExitCode::kRun, "the argument has to be a text");
  }
  return std::string(bytes.data, bytes.size);
}

int CallBack(void* self, const TVMFFIAny* arguments, int32_t count, TVMFFIAny* result) {
  try {
    *result = (*static_cast<Function*>(self))(count > 0 ? ArgumentText(arguments[0]) : "").Release();
    return 0;
  } catch (const std::exception& error) {
    TVMFFIErrorSetRaisedFromCStr("RuntimeError", error.what());
    return -1;
  }
}

void Register(const std::string& name, Function function) {
  const TVMFFIByteArray bytes{name.data(), name.size()};
  TVMFFIObjectHandle handle = nullptr;
  auto owned = std::make_unique<Function>(std::move(function));
  if (TVMFFIFunctionCreate(owned.get(), CallBack, [](void* self) { delete static_cast<Function*>(self); }, &handle) != 0) {
    throw Failure(ExitCode::kServe, "cannot make " + name + ": " + RaisedMessage());
  }
  owned.release();
  const Value held = Object(handle);
  if (TVMFFIFunctionSetGlobal(&bytes, handle, 1) != 0) {
    throw Failure(ExitCode::kServe, "cannot register " + name + ": " + RaisedMessage());
  }
}

// The path of a file of this session. A client may run any code anyway; this keeps its mistakes inside its folder.
std::string PathIn(const std::string& folder, const std::string& name) {
  if (name.rfind('/', 0) == 0 || ("/" + name + "/").find("/../") != std::string::npos) {
    throw Failure(ExitCode::kRun, "'" + name + "' lies outside the session's folder");
  }
  return folder + "/" + name;
}

std::string List(const std::string& path) {
  std::unique_ptr<DIR, int (*)(DIR*)> folder(opendir(path.c_str()), closedir);
  if (folder == nullptr) throw Failure(ExitCode::kRun, "cannot list " + path + ": " + std::strerror(errno));
  std::string names;
  while (const dirent* entry = readdir(folder.get())) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names += (names.empty() ? "" : ",") + name;
  }
  return names;
}

void RequireLinked(const std::string& name) {
  if (name.size() > 3 && name.compare(name.size() - 3, 3, ".so") == 0) return;
  throw Failure(ExitCode::kRun, "'" + name + "' is not linked, and this board has no compiler: send the .so");
}

Value ReadBytes(const std::string& path) {
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), std::fclose);
  if (file == nullptr) throw Failure(ExitCode::kRun, "cannot read " + path + ": " + std::strerror(errno));
  std::string content;
  char block[1 << 16];
  while (const size_t size = std::fread(block, 1, sizeof(block), file.get())) content.append(block, size);
  const TVMFFIByteArray bytes{content.data(), content.size()};
  TVMFFIAny any{};
  TVMFFIBytesFromByteArray(&bytes, &any);
  return Value(any);
}

}  // namespace

void RegisterRemoteFunctions(const std::string& folder, const BoardSource& source) {
  Register("tvm.rpc.server.workpath", [=](const std::string& name) { return TextValue(PathIn(folder, name)); });
  Register("tvm.rpc.server.listdir", [=](const std::string& name) { return TextValue(List(PathIn(folder, name))); });
  Register("tvm.rpc.server.load_module", [=](const std::string& name) {
    RequireLinked(name);
    const std::string path = PathIn(folder, name);
    return Call(Global("ffi.ModuleLoadFromFile"), {Text(path.c_str())}, ExitCode::kLibrary, "cannot load " + name);
  });
  Register("tvm.rpc.server.download_linked_module", [=](const std::string& name) {
    RequireLinked(name);
    return ReadBytes(PathIn(folder, name));
  });
  Register("tvmbuild.fingerprint", [=](const std::string&) { return TextValue(FingerprintJson(source)); });
  Register("tvmbuild.health", [=](const std::string&) { return TextValue(HealthJson(source)); });
}

}  // namespace tvmbuild
