// A server's side of the protocol of TVM's tracker: messages of JSON, each after its length in four bytes.
#ifndef TVMBUILD_SERVER_TRACKER_H_
#define TVMBUILD_SERVER_TRACKER_H_

#include <string>

#include "server/socket.h"

namespace tvmbuild {

class Tracker {
 public:
  Tracker(Address address, std::string key, int port)
      : address_(std::move(address)), key_(std::move(key)), port_(port) {}

  // Connects and announces this server with `facts`, members of a JSON object. The reason of a failure goes to `why`.
  bool Connect(const std::string& facts, std::string* why);
  bool connected() const { return socket_.open(); }
  void Drop() { socket_.Close(); }

  // Replaces facts in the tracker's summary. Each call that fails drops the connection.
  bool Update(const std::string& facts);

  // Offers this server to the next client that asks for the key; the client has to show the match key.
  bool Offer(const std::string& match_key);

  // Tells whether the match key still waits for a client; false with connected() when one has taken it.
  bool IsWaiting(const std::string& match_key);

 private:
  bool Ask(const std::string& message, std::string* answer);
  bool Succeeds(const std::string& message);

  Address address_;
  std::string key_;
  int port_;
  Descriptor socket_;
};

// The key with a random number that nobody can guess behind it: "rpi4:5f3c...".
std::string NewMatchKey(const std::string& key);

}  // namespace tvmbuild

#endif  // TVMBUILD_SERVER_TRACKER_H_
