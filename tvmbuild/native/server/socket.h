// TCP sockets with time limits.
#ifndef TVMBUILD_SERVER_SOCKET_H_
#define TVMBUILD_SERVER_SOCKET_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

#include "common/file.h"

namespace tvmbuild {

constexpr int kLargestPort = 65535;

struct Address {
  std::string host;
  int port = 0;
};

// Reads "HOST:PORT" or "[IPV6]:PORT"; false if it is neither.
bool ParseAddress(const std::string& text, Address* address);

// "host:port"; an IPv6 address stands in brackets.
std::string AddressText(const std::string& host, const std::string& port);

// The end of the time for one exchange with a peer, however many pieces it comes in.
using Deadline = std::chrono::steady_clock::time_point;
Deadline After(int milliseconds);
// 0 when it is over.
int MillisecondsUntil(Deadline deadline);

// Listens on the first free port of [first, last]. Throws Failure(kServe).
Descriptor Listen(const std::string& host, int first, int last, int* port);

// Connects within a time limit; not open when that fails, with the reason in `why`.
Descriptor Connect(const Address& address, int timeout_ms, std::string* why);

// Accepts one client and names it ("192.168.1.7:40112"); not open when there is none after all.
Descriptor Accept(int listener, std::string* peer);

// Each call returns false when the peer is gone or the deadline passes first.
bool SendAll(int socket, const void* data, size_t size, Deadline deadline);
bool ReceiveAll(int socket, void* data, size_t size, Deadline deadline);

// Appends what has come to `data` without waiting, up to `size` bytes in it; false when the peer is gone.
bool ReceiveSome(int socket, std::string* data, size_t size);

// Limits how long one send or receive of somebody else's code may wait; 0 for no limit.
void SetTimeLimit(int socket, int timeout_ms);

// Lets the kernel find out by itself, within about a minute, that a peer lost its power or its cable.
void KeepAlive(int socket);

}  // namespace tvmbuild

#endif  // TVMBUILD_SERVER_SOCKET_H_
