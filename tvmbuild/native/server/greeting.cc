#include "server/greeting.h"

#include <poll.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "common/number.h"

namespace tvmbuild {
namespace {

constexpr int32_t kMagic = 0xFF271;
constexpr int32_t kMismatch = kMagic + 2;
constexpr int32_t kMaxKey = 4096;
constexpr size_t kHeader = 2 * sizeof(int32_t);
constexpr size_t kMaxUser = 64;
// For the whole greeting of one client.
constexpr int kGreetingMs = 5000;
// Greetings at the same time; one more drops the oldest.
constexpr size_t kMaxGreetings = 256;

int32_t NumberAt(const std::string& bytes, size_t offset) {
  int32_t number = 0;
  std::memcpy(&number, bytes.data() + offset, sizeof(number));
  return number;
}

std::string ClientOption(const std::string& text, const std::string& name) {
  const size_t at = text.find(" -" + name + "=");
  if (at == std::string::npos) return "";
  const size_t start = at + name.size() + 3;
  return text.substr(start, text.find(' ', start) - start);
}

// A client calls itself what it likes; this becomes part of our log.
std::string UserName(std::string text) {
  text.resize(std::min(text.size(), kMaxUser));
  for (char& letter : text) {
    const bool plain = (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') ||
                       (letter >= '0' && letter <= '9') || std::strchr("_.@-", letter) != nullptr;
    if (!plain || letter == '\0') letter = '_';
  }
  return text;
}

// 0, no limit, for what is no number of seconds.
int Milliseconds(const std::string& seconds) {
  constexpr int kMost = std::numeric_limits<int>::max();
  const double value = 1000 * DecimalNumber(seconds).value_or(0);
  if (value <= 0) return 0;
  return value < kMost ? std::max(1, static_cast<int>(value)) : kMost;
}

}  // namespace

bool Greetings::Wait(const std::string& match_key, int timeout_ms, SessionRequest* request) {
  const Deadline end = After(timeout_ms);
  for (bool first = true; first || MillisecondsUntil(end) > 0; first = false) {
    std::vector<pollfd> waited{{listener_, POLLIN, 0}};
    int left = MillisecondsUntil(end);
    for (const Client& client : waiting_) {
      waited.push_back({client.connection.number(), POLLIN, 0});
      left = std::min(left, MillisecondsUntil(client.deadline) + 1);
    }
    // A signal ends the wait: the caller looks whether it is to stop.
    if (poll(waited.data(), waited.size(), left) < 0) return false;
    size_t i = 1;
    for (auto client = waiting_.begin(); client != waiting_.end(); ++i) {
      const State state = waited[i].revents != 0 ? Hear(match_key, &*client) : State::kUnfinished;
      if (state == State::kUnfinished && MillisecondsUntil(client->deadline) > 0) {
        ++client;
        continue;
      }
      const bool welcome = state == State::kWelcome && Welcome(&*client, request);
      client = waiting_.erase(client);
      if (welcome) return true;
    }
    if (waited[0].revents != 0) AcceptOne();
  }
  return false;
}

void Greetings::Restart() {
  for (Client& client : waiting_) client.deadline = After(kGreetingMs);
}

void Greetings::AcceptOne() {
  Client client;
  client.connection = Accept(listener_, &client.peer);
  if (!client.connection.open()) return;
  if (waiting_.size() >= kMaxGreetings) waiting_.pop_front();
  client.deadline = After(kGreetingMs);
  waiting_.push_back(std::move(client));
}

// Reads what the client shows: a number, a length, and "client:KEY -timeout=SECONDS -user=NAME".
Greetings::State Greetings::Hear(const std::string& match_key, Client* client) const {
  const int socket = client->connection.number();
  std::string& received = client->received;
  if (received.size() < kHeader) {
    if (!ReceiveSome(socket, &received, kHeader)) return State::kRefused;
    if (received.size() >= sizeof(int32_t) && NumberAt(received, 0) != kMagic) return State::kRefused;
    if (received.size() < kHeader) return State::kUnfinished;
  }
  const int32_t size = NumberAt(received, sizeof(int32_t));
  if (size <= 0 || size > kMaxKey) return State::kRefused;
  const size_t whole = kHeader + static_cast<size_t>(size);
  if (!ReceiveSome(socket, &received, whole)) return State::kRefused;
  if (received.size() < whole) return State::kUnfinished;
  const std::string shown = received.substr(kHeader);
  if (shown.substr(0, shown.find(' ')) == "client:" + match_key) return State::kWelcome;
  SendAll(socket, &kMismatch, sizeof(kMismatch), client->deadline);
  log_(client->peer + " showed a wrong key");
  return State::kRefused;
}

bool Greetings::Welcome(Client* client, SessionRequest* request) const {
  const std::string shown = client->received.substr(kHeader);
  const size_t options = shown.find(' ');
  request->peer = client->peer;
  if (options != std::string::npos) {
    request->user = UserName(ClientOption(shown.substr(options), "user"));
    request->timeout_ms = Milliseconds(ClientOption(shown.substr(options), "timeout"));
  }
  request->connection = std::move(client->connection);
  const std::string own = "server:" + key_;
  const auto length = static_cast<int32_t>(own.size());
  std::string answer(reinterpret_cast<const char*>(&kMagic), sizeof(kMagic));
  answer.append(reinterpret_cast<const char*>(&length), sizeof(length));
  KeepAlive(request->connection.number());
  return SendAll(request->connection.number(), (answer + own).data(), answer.size() + own.size(), client->deadline);
}

}  // namespace tvmbuild
