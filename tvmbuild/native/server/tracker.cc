#include "server/tracker.h"

#include <sys/random.h>

#include <cstdint>

#include "server/json.h"

namespace tvmbuild {
namespace {

constexpr int32_t kMagic = 0x2F271;
// For one question and its whole answer.
constexpr int kTimeoutMs = 10000;
// The tracker's own limit of a message, in bytes.
constexpr int32_t kMaxMessage = 1 << 20;
// Numbers of the requests.
constexpr const char kPut[] = "3", kUpdateInfo[] = "5", kPendingMatchKeys[] = "7";

}  // namespace

bool Tracker::Connect(const std::string& facts, std::string* why) {
  socket_ = tvmbuild::Connect(address_, kTimeoutMs, why);
  if (!socket_.open()) return false;
  KeepAlive(socket_.number());
  int32_t magic = 0;
  const Deadline deadline = After(kTimeoutMs);
  const bool greeted = SendAll(socket_.number(), &kMagic, sizeof(kMagic), deadline) &&
                       ReceiveAll(socket_.number(), &magic, sizeof(magic), deadline) && magic == kMagic;
  if (!greeted || !Update(facts)) {
    *why = "what answers there is no tracker of TVM";
    Drop();
    return false;
  }
  return true;
}

bool Tracker::Update(const std::string& facts) {
  // Without a host the tracker takes the address that the connection comes from.
  return Succeeds(std::string("[") + kUpdateInfo + ", {\"key\": " + JsonText("server:" + key_) + ", \"addr\": [null, " +
                  std::to_string(port_) + "]" + (facts.empty() ? "" : ", " + facts) + "}]");
}

bool Tracker::Offer(const std::string& match_key) {
  return Succeeds(std::string("[") + kPut + ", " + JsonText(key_) + ", [" + std::to_string(port_) + ", " +
                  JsonText(match_key) + "], null]");
}

bool Tracker::IsWaiting(const std::string& match_key) {
  std::string answer;
  return Ask(std::string("[") + kPendingMatchKeys + "]", &answer) &&
         answer.find(JsonText(match_key)) != std::string::npos;
}

bool Tracker::Succeeds(const std::string& message) {
  std::string answer;
  if (!Ask(message, &answer)) return false;
  if (answer == "0") return true;
  Drop();
  return false;
}

bool Tracker::Ask(const std::string& message, std::string* answer) {
  const auto size = static_cast<int32_t>(message.size());
  const std::string packet = std::string(reinterpret_cast<const char*>(&size), sizeof(size)) + message;
  int32_t length = 0;
  const Deadline deadline = After(kTimeoutMs);
  bool done = connected() && SendAll(socket_.number(), packet.data(), packet.size(), deadline) &&
              ReceiveAll(socket_.number(), &length, sizeof(length), deadline) && length > 0 && length <= kMaxMessage;
  if (done) {
    answer->resize(static_cast<size_t>(length));
    done = ReceiveAll(socket_.number(), &(*answer)[0], answer->size(), deadline);
  }
  if (!done) Drop();
  return done;
}

std::string NewMatchKey(const std::string& key) {
  unsigned char bytes[16] = {};
  size_t got = 0;
  while (got < sizeof(bytes)) {
    const ssize_t count = getrandom(bytes + got, sizeof(bytes) - got, 0);
    if (count > 0) got += static_cast<size_t>(count);
  }
  std::string text = key + ":";
  for (const unsigned char byte : bytes) {
    text += "0123456789abcdef"[byte >> 4];
    text += "0123456789abcdef"[byte & 15];
  }
  return text;
}

}  // namespace tvmbuild
