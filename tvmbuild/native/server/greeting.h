// How a client asks for a session: it shows a key. Many may be on their way at the same time; each has one deadline for
// its whole greeting, and none makes another wait.
#ifndef TVMBUILD_SERVER_GREETING_H_
#define TVMBUILD_SERVER_GREETING_H_

#include <functional>
#include <list>
#include <string>

#include "server/session.h"
#include "server/socket.h"

namespace tvmbuild {

class Greetings {
 public:
  using Log = std::function<void(const std::string&)>;

  // Clients of `listener` are told that they reached the server of `key`.
  Greetings(int listener, std::string key, Log log) : listener_(listener), key_(std::move(key)), log_(std::move(log)) {}

  // Waits up to a time for a client that shows `match_key`. Whoever shows another, something else or nothing in time is
  // dropped.
  bool Wait(const std::string& match_key, int timeout_ms, SessionRequest* request);

  // Gives those that are half way all their time again: they could not be heard while a session was served.
  void Restart();

  // Closes every connection; for a process that serves one client and has no business with the others.
  void Close() { waiting_.clear(); }

 private:
  struct Client {
    Descriptor connection;
    std::string peer;
    std::string received;
    Deadline deadline;
  };
  enum class State { kUnfinished, kRefused, kWelcome };

  void AcceptOne();
  State Hear(const std::string& match_key, Client* client) const;
  bool Welcome(Client* client, SessionRequest* request) const;

  int listener_;
  std::string key_;
  Log log_;
  std::list<Client> waiting_;
};

}  // namespace tvmbuild

#endif  // TVMBUILD_SERVER_GREETING_H_
