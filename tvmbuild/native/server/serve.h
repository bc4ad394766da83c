// The RPC server: speaks the protocol of TVM's server to clients and to a tracker.
// Protocol: python/tvm/rpc/server.py and tracker.py of apache-tvm 0.27.
#ifndef TVMBUILD_SERVER_SERVE_H_
#define TVMBUILD_SERVER_SERVE_H_

namespace tvmbuild {

// Serves until SIGTERM or SIGINT. `argv` is what follows the word "serve". Throws Failure(kUsage, kServe).
void Serve(int argc, char** argv);

}  // namespace tvmbuild

#endif  // TVMBUILD_SERVER_SERVE_H_
