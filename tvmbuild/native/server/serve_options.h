// The command line of `tvmbuild-runner serve`.
#ifndef TVMBUILD_SERVER_SERVE_OPTIONS_H_
#define TVMBUILD_SERVER_SERVE_OPTIONS_H_

#include <string>

#include "server/board_facts.h"
#include "server/socket.h"

namespace tvmbuild {

struct ServeOptions {
  Address tracker;  // port 0 for none
  std::string key;
  std::string host = "127.0.0.1";
  int first_port = 9091;
  int last_port = 9199;
  int threads = 0;
  BoardSource source;
  bool end_with_parent = false;
  bool help = false;
};

extern const char kServeUsage[];

// Throws Failure(kUsage).
ServeOptions ParseServeOptions(int argc, char** argv);

}  // namespace tvmbuild

#endif  // TVMBUILD_SERVER_SERVE_OPTIONS_H_
