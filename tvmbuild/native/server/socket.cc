#include "server/socket.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include "common/failure.h"
#include "common/number.h"

namespace tvmbuild {
namespace {

struct FreeAddresses {
  void operator()(addrinfo* list) const { freeaddrinfo(list); }
};
using Addresses = std::unique_ptr<addrinfo, FreeAddresses>;

Addresses Resolve(const std::string& host, int port, bool passive, std::string* why) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = passive ? AI_PASSIVE : 0;
  addrinfo* list = nullptr;
  const int code = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &list);
  if (code != 0) *why = gai_strerror(code);
  return Addresses(code == 0 ? list : nullptr);
}

bool ConnectWithin(int socket, const addrinfo& to, int timeout_ms, std::string* why) {
  const int flags = fcntl(socket, F_GETFL);
  fcntl(socket, F_SETFL, flags | O_NONBLOCK);
  int error = connect(socket, to.ai_addr, to.ai_addrlen) == 0 ? 0 : errno;
  if (error == EINPROGRESS) {
    pollfd waited{socket, POLLOUT, 0};
    const int ready = poll(&waited, 1, timeout_ms);
    error = ready == 0 ? ETIMEDOUT : ready < 0 ? errno : 0;
    socklen_t size = sizeof(error);
    if (ready > 0) getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &size);
  }
  fcntl(socket, F_SETFL, flags);
  if (error != 0) *why = std::strerror(error);
  return error == 0;
}

void SetOption(int socket, int level, int name, int value) { setsockopt(socket, level, name, &value, sizeof(value)); }

// Clients that the kernel keeps for us while we serve another one.
constexpr int kBacklog = 256;

// Waits for an event; false when the deadline passes first.
bool WaitFor(int socket, short events, Deadline deadline) {
  for (;;) {
    const int left = MillisecondsUntil(deadline);
    pollfd waited{socket, events, 0};
    const int ready = left > 0 ? poll(&waited, 1, left) : 0;
    if (ready > 0) return true;
    if (ready == 0 || errno != EINTR) return false;
  }
}

bool MayComeLater(int error) { return error == EINTR || error == EAGAIN || error == EWOULDBLOCK; }

}  // namespace

bool ParseAddress(const std::string& text, Address* address) {
  const bool bracketed = text.rfind('[', 0) == 0;
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos || colon == 0) return false;
  std::string host = text.substr(0, colon);
  if (bracketed) {
    if (host.size() < 3 || host.back() != ']') return false;
    host = host.substr(1, host.size() - 2);
  }
  const std::optional<int64_t> port = WholeNumber(std::string_view(text).substr(colon + 1), 1, kLargestPort);
  // Without brackets it cannot be told which colon is before the port.
  if (!port || (host.find(':') != std::string::npos) != bracketed) return false;
  *address = {host, static_cast<int>(*port)};
  return true;
}

std::string AddressText(const std::string& host, const std::string& port) {
  return (host.find(':') == std::string::npos ? host : "[" + host + "]") + ":" + port;
}

Deadline After(int milliseconds) { return std::chrono::steady_clock::now() + std::chrono::milliseconds(milliseconds); }

int MillisecondsUntil(Deadline deadline) {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
  return left.count() > 0 ? static_cast<int>(left.count()) : 0;
}

Descriptor Listen(const std::string& host, int first, int last, int* port) {
  std::string why = "no port is free";
  for (*port = first; *port <= last; ++*port) {
    const Addresses list = Resolve(host, *port, true, &why);
    if (list == nullptr) break;
    Descriptor listener(socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    SetOption(listener.number(), SOL_SOCKET, SO_REUSEADDR, 1);
    if (bind(listener.number(), list->ai_addr, list->ai_addrlen) == 0 && listen(listener.number(), kBacklog) == 0)
      return listener;
    why = std::strerror(errno);
    if (errno != EADDRINUSE) break;
  }
  const std::string ports =
      first == last ? std::to_string(first) : std::to_string(first) + " to " + std::to_string(last);
  throw Failure(ExitCode::kServe, "cannot listen on " + host + ", port " + ports + ": " + why);
}

Descriptor Connect(const Address& address, int timeout_ms, std::string* why) {
  const Addresses list = Resolve(address.host, address.port, false, why);
  for (const addrinfo* at = list.get(); at != nullptr; at = at->ai_next) {
    Descriptor connection(socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (connection.open() && ConnectWithin(connection.number(), *at, timeout_ms, why)) {
      SetOption(connection.number(), IPPROTO_TCP, TCP_NODELAY, 1);
      return connection;
    }
  }
  return Descriptor();
}

Descriptor Accept(int listener, std::string* peer) {
  sockaddr_storage from{};
  socklen_t size = sizeof(from);
  Descriptor connection(accept4(listener, reinterpret_cast<sockaddr*>(&from), &size, SOCK_CLOEXEC));
  char host[64] = "?", port[16] = "?";
  getnameinfo(reinterpret_cast<sockaddr*>(&from), size, host, sizeof(host), port, sizeof(port),
              NI_NUMERICHOST | NI_NUMERICSERV);
  *peer = AddressText(host, port);
  if (connection.open()) SetOption(connection.number(), IPPROTO_TCP, TCP_NODELAY, 1);
  return connection;
}

bool SendAll(int socket, const void* data, size_t size, Deadline deadline) {
  const char* at = static_cast<const char*>(data);
  while (size > 0) {
    if (!WaitFor(socket, POLLOUT, deadline)) return false;
    const ssize_t count = send(socket, at, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count < 0 && MayComeLater(errno)) continue;
    if (count <= 0) return false;
    at += count;
    size -= static_cast<size_t>(count);
  }
  return true;
}

bool ReceiveAll(int socket, void* data, size_t size, Deadline deadline) {
  std::string received;
  while (received.size() < size) {
    if (!WaitFor(socket, POLLIN, deadline) || !ReceiveSome(socket, &received, size)) return false;
  }
  std::memcpy(data, received.data(), size);
  return true;
}

bool ReceiveSome(int socket, std::string* data, size_t size) {
  char block[4096];
  while (data->size() < size) {
    // TVM's tracker and client send a message in pieces, each of which waits for the acknowledgement of the one before;
    // the kernel would delay that by 40 ms, and forgets this option after a while.
    SetOption(socket, IPPROTO_TCP, TCP_QUICKACK, 1);
    const ssize_t count = recv(socket, block, std::min(sizeof(block), size - data->size()), MSG_DONTWAIT);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && MayComeLater(errno)) return true;
    if (count <= 0) return false;
    data->append(block, static_cast<size_t>(count));
  }
  return true;
}

void SetTimeLimit(int socket, int timeout_ms) {
  const timeval limit{timeout_ms / 1000, (timeout_ms % 1000) * 1000L};
  setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
}

void KeepAlive(int socket) {
  SetOption(socket, SOL_SOCKET, SO_KEEPALIVE, 1);
  SetOption(socket, IPPROTO_TCP, TCP_KEEPIDLE, 20);
  SetOption(socket, IPPROTO_TCP, TCP_KEEPINTVL, 10);
  SetOption(socket, IPPROTO_TCP, TCP_KEEPCNT, 4);
}

}  // namespace tvmbuild
