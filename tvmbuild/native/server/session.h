// One client's session: a process and a folder of its own, so that whatever it runs takes only itself down.
#ifndef TVMBUILD_SERVER_SESSION_H_
#define TVMBUILD_SERVER_SESSION_H_

#include <signal.h>

#include <functional>
#include <string>

#include "server/board_facts.h"
#include "server/socket.h"

namespace tvmbuild {

struct SessionRequest {
  Descriptor connection;
  std::string peer;
  std::string user;    // as the client calls itself, or ""
  int timeout_ms = 0;  // 0 for no limit
};

// Serves one client until it leaves, its time is over, its process dies or `stop` becomes true. A client that still
// waits is told the reason of an early end. The client's process calls `leave_others` first, to close what only the
// server needs. Returns one line about how it ended.
std::string ServeSession(SessionRequest request, const BoardSource& source, const volatile sig_atomic_t* stop,
                         const std::function<void()>& leave_others);

// Removes session folders that killed servers have left behind.
void RemoveAbandonedFolders();

}  // namespace tvmbuild

#endif  // TVMBUILD_SERVER_SESSION_H_
