// The functions that a client of the RPC server may call by name, besides those of the runtime library.
#ifndef TVMBUILD_SERVER_REMOTE_FUNCTIONS_H_
#define TVMBUILD_SERVER_REMOTE_FUNCTIONS_H_

#include <string>

#include "server/board_facts.h"

namespace tvmbuild {

// Registers tvm.rpc.server.{workpath,listdir,load_module,download_linked_module}, whose files live in `folder`, and
// tvmbuild.{fingerprint,health}, which return JSON, tvmbuild.peak_bytes, a number as text, and tvmbuild.expose(module,
// name), which makes a function of the module a global one and returns its name. Throws Failure when the runtime
// refuses.
void RegisterRemoteFunctions(const std::string& folder, const BoardSource& source);

}  // namespace tvmbuild

#endif  // TVMBUILD_SERVER_REMOTE_FUNCTIONS_H_
