#include "server/remote_functions.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "common/file.h"
#include "runtime/function.h"
#include "runtime/machine.h"
#include "runtime/memory.h"
#include "runtime/value.h"

namespace tvmbuild {
namespace {

Value TextValue(const std::string& text) {
  const TVMFFIByteArray bytes{text.data(), text.size()};
  TVMFFIAny any{};
  TVMFFIStringFromByteArray(&bytes, &any);
  return Value(any);
}

// The text of an argument: a client sends a C string, the runtime itself a string object.
std::string ArgumentText(const Arguments& arguments, int32_t index = 0) {
  if (index >= arguments.count) throw Failure(ExitCode::kRun, "an argument is missing");
  const TVMFFIAny& any = arguments.first[index];
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

// The path of a file of this session. A client may run any code anyway; this keeps its mistakes inside its folder.
std::string PathIn(const std::string& folder, const std::string& name) {
  if (name.rfind('/', 0) == 0 || ("/" + name + "/").find("/../") != std::string::npos) {
    throw Failure(ExitCode::kRun, "'" + name + "' lies outside the session's folder");
  }
  return folder + "/" + name;
}

std::string List(const std::string& path) {
  const Folder folder = OpenFolder(path);
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
  const File file = OpenFile(path, "rb");
  if (file == nullptr) throw Failure(ExitCode::kRun, "cannot read " + path + ": " + std::strerror(errno));
  std::string content;
  char block[1 << 16];
  size_t size = sizeof(block);
  while (size == sizeof(block)) {
    size = std::fread(block, 1, sizeof(block), file.get());
    content.append(block, size);
  }
  if (std::ferror(file.get()) != 0) throw Failure(ExitCode::kRun, "cannot read " + path + ": " + std::strerror(errno));
  const TVMFFIByteArray bytes{content.data(), content.size()};
  TVMFFIAny any{};
  TVMFFIBytesFromByteArray(&bytes, &any);
  return Value(any);
}

// Makes a function of a loaded module, or of what it imports, a global one. TVM's time evaluator finds a function in a
// module itself or among the globals, but not in imports, where a model's kernels are.
Value ExposeFunction(const Arguments& arguments) {
  const std::string name = ArgumentText(arguments, 1);
  const Value function = Call(Global("ffi.ModuleGetFunction"), {arguments.first[0], Text(name.c_str()), Boolean(true)},
                              ExitCode::kRun, "cannot look up " + name);
  if (function.type() != kTVMFFIFunction) throw Failure(ExitCode::kRun, "the library has no function " + name);
  const std::string global = "tvmbuild.exposed." + name;
  const TVMFFIByteArray bytes{global.data(), global.size()};
  if (TVMFFIFunctionSetGlobal(&bytes, function.object(), 1) != 0) {
    throw Failure(ExitCode::kRun, "cannot expose " + name + ": " + RaisedMessage());
  }
  return TextValue(global);
}

}  // namespace

void RegisterRemoteFunctions(const std::string& folder, const BoardSource& source) {
  const auto path = [=](const Arguments& arguments) { return PathIn(folder, ArgumentText(arguments)); };
  const auto linked = [=](const Arguments& arguments) {
    RequireLinked(ArgumentText(arguments));
    return path(arguments);
  };
  Register("tvm.rpc.server.workpath", [=](const Arguments& arguments) { return TextValue(path(arguments)); });
  Register("tvm.rpc.server.listdir", [=](const Arguments& arguments) { return TextValue(List(path(arguments))); });
  Register("tvm.rpc.server.load_module", [=](const Arguments& arguments) {
    const std::string file = linked(arguments);
    RequireThisMachine(file);
    return Call(Global("ffi.ModuleLoadFromFile"), {Text(file.c_str())}, ExitCode::kLibrary, "cannot load the library");
  });
  Register("tvm.rpc.server.download_linked_module",
           [=](const Arguments& arguments) { return ReadBytes(linked(arguments)); });
  Register("tvmbuild.expose", ExposeFunction);
  Register("tvmbuild.fingerprint", [=](const Arguments&) { return TextValue(FingerprintJson(source)); });
  Register("tvmbuild.health", [=](const Arguments&) { return TextValue(HealthJson(source)); });
  Register("tvmbuild.peak_bytes", [](const Arguments&) { return TextValue(std::to_string(PeakResidentBytes())); });
}

}  // namespace tvmbuild
