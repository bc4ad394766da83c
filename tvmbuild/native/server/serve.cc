#include "server/serve.h"

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>

#include <cstdint>
#include <cstdio>
#include <ctime>
#include <string>

#include "common/failure.h"
#include "common/printable.h"
#include "runtime/parallel_loops.h"
#include "runtime/threads.h"
#include "server/board_facts.h"
#include "server/greeting.h"
#include "server/json.h"
#include "server/serve_options.h"
#include "server/session.h"
#include "server/socket.h"
#include "server/tracker.h"

namespace tvmbuild {
namespace {

constexpr int kPingMs = 2000;
// Pings after which a match key that was given to a client, but never shown, is replaced.
constexpr int kUnclaimedPings = 4;
// The tracker is told how the board is doing every so many pings.
constexpr int kHealthPings = 5;

volatile sig_atomic_t stop = 0;

void Stop(int) { stop = 1; }

void Log(const std::string& line) {
  std::fprintf(stderr, "tvmbuild-runner: %s\n", Printable(line).c_str());
  std::fflush(stderr);
}

class Server {
 public:
  explicit Server(ServeOptions options)
      : options_(std::move(options)),
        listener_(Listen(options_.host, options_.first_port, options_.last_port, &port_)),
        tracker_(options_.tracker, options_.key, port_),
        greetings_(listener_.number(), options_.key, Log),
        fingerprint_(FingerprintJson(options_.source)) {}

  void Run() {
    Log("listening on " + AddressText(options_.host, std::to_string(port_)) + " as " + options_.key);
    while (stop == 0) {
      SessionRequest request;
      if (!WaitForClient(&request)) continue;
      Tell(&request);
      Log("session of " + request.peer + (request.user.empty() ? "" : " (" + request.user + ")"));
      const std::string peer = request.peer;
      // Each round has a request of its own, which the analyzer loses sight of.
      // NOLINTNEXTLINE(clang-analyzer-cplusplus.Move)
      Log("session of " + peer + ": " + ServeOne(std::move(request)));
      greetings_.Restart();
      Tell(nullptr);
    }
  }

 private:
  // A full disk or process table is no reason to end: it may pass.
  std::string ServeOne(SessionRequest request) {
    try {
      return ServeSession(std::move(request), options_.source, &stop, [this] { LeaveOthers(); });
    } catch (const Failure& failure) {
      return failure.what();
    }
  }

  // What a client runs must hold none of our connections: it could outlive us on the port, or speak for us.
  void LeaveOthers() {
    listener_.Close();
    tracker_.Drop();
    greetings_.Close();
  }

  bool has_tracker() const { return options_.tracker.port != 0; }

  // What the tracker's summary shows of this board, beside what TVM's own servers tell.
  std::string Facts(const SessionRequest* session) const {
    JsonMembers json;
    json.AddRaw("fingerprint", fingerprint_);
    json.AddRaw("health", HealthJson(options_.source));
    JsonMembers held;
    if (session != nullptr) {
      held.Add("peer", session->peer);
      held.Add("user", session->user);
      held.Add("since", static_cast<int64_t>(std::time(nullptr)));
    }
    json.AddRaw("session", session != nullptr ? held.Object() : "null");
    return json.members();
  }

  void Tell(const SessionRequest* session) {
    if (tracker_.connected()) tracker_.Update(Facts(session));
  }

  // Connects to the tracker if need be, and offers this board. Says once that it does not answer.
  bool Announce() {
    if (!tracker_.connected()) {
      std::string why;
      if (!tracker_.Connect(Facts(nullptr), &why)) {
        if (!complained_) {
          const Address& tracker = options_.tracker;
          Log("the tracker " + AddressText(tracker.host, std::to_string(tracker.port)) + " does not answer (" + why +
              "); trying again");
        }
        complained_ = true;
        return false;
      }
      complained_ = false;
      Log("registered with the tracker");
    }
    match_key_ = NewMatchKey(options_.key);
    return tracker_.Offer(match_key_);
  }

  // Waits for one client that shows the right key.
  bool WaitForClient(SessionRequest* request) {
    match_key_ = options_.key;
    if (has_tracker() && !Announce()) {
      poll(nullptr, 0, kPingMs);
      return false;
    }
    int unclaimed = 0;
    for (int pings = 1; stop == 0; ++pings) {
      if (greetings_.Wait(match_key_, kPingMs, request)) return true;
      if (!has_tracker()) continue;
      unclaimed = tracker_.IsWaiting(match_key_) ? 0 : unclaimed + 1;
      if (pings % kHealthPings == 0) Tell(nullptr);
      if (!tracker_.connected()) {
        Log("the tracker is gone");
        return false;
      }
      if (unclaimed > kUnclaimedPings) return false;
    }
    return false;
  }

  ServeOptions options_;
  int port_ = 0;
  Descriptor listener_;
  Tracker tracker_;
  Greetings greetings_;
  std::string fingerprint_;
  std::string match_key_;
  bool complained_ = false;
};

}  // namespace

void Serve(int argc, char** argv) {
  const ServeOptions options = ParseServeOptions(argc, argv);
  if (options.help) {
    std::fputs(kServeUsage, stdout);
    return;
  }
  for (const int number : {SIGTERM, SIGINT}) {
    struct sigaction action{};
    action.sa_handler = Stop;
    sigaction(number, &action, nullptr);
  }
  signal(SIGPIPE, SIG_IGN);
  if (options.end_with_parent) prctl(PR_SET_PDEATHSIG, SIGTERM);
  SetThreads(options.threads);
  OwnsParallelLoops();  // each session does that; a wrong value is known now
  RemoveAbandonedFolders();
  Server(options).Run();
  Log("stopped");
}

}  // namespace tvmbuild
