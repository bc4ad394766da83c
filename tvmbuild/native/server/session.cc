#include "server/session.h"

#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string_view>

#include "common/file.h"
#include "common/number.h"
#include "common/printable.h"
#include "runtime/parallel_loops.h"
#include "runtime/value.h"
#include "server/remote_functions.h"

namespace tvmbuild {
namespace {

constexpr const char kFolderPrefix[] = "tvmbuild-rpc-";
// A client that closes its connection usually says good-bye first; a process that has not read it by then never will.
constexpr int kGraceMs = 2000;
constexpr int kPollMs = 200;

using Clock = std::chrono::steady_clock;

int64_t Since(Clock::time_point start) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - start).count();
}

std::string TemporaryFolder() {
  const char* folder = std::getenv("TMPDIR");
  return folder != nullptr && *folder != '\0' ? folder : "/tmp";
}

void RemoveTree(const std::string& path) {
  const auto remove = [](const char* name, const struct stat*, int, struct FTW*) { return std::remove(name), 0; };
  nftw(path.c_str(), remove, 16, FTW_DEPTH | FTW_PHYS);
}

// The process id in the name of a session's folder; 0 if there is none.
pid_t OwnerOf(const std::string& name) {
  const std::string_view rest = std::string_view(name).substr(sizeof(kFolderPrefix) - 1);
  return static_cast<pid_t>(LeadingNumber(rest, std::numeric_limits<pid_t>::max()).value_or(0));
}

// A folder that nobody else may enter; it is removed with everything in it.
class SessionFolder {
 public:
  SessionFolder() : path_(TemporaryFolder() + "/" + kFolderPrefix + std::to_string(getpid()) + "-XXXXXX") {
    if (mkdtemp(&path_[0]) == nullptr) {
      throw Failure(ExitCode::kServe, "cannot make the folder " + path_ + ": " + std::strerror(errno));
    }
  }
  SessionFolder(const SessionFolder&) = delete;
  SessionFolder& operator=(const SessionFolder&) = delete;
  ~SessionFolder() { RemoveTree(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// Makes this process the first to go when memory runs out, and lets it end with its server.
void PrepareProcess() {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const rlimit no_core{0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  if (const File file = OpenFile("/proc/self/oom_score_adj", "w")) std::fputs("1000", file.get());
  for (const int number : {SIGTERM, SIGINT}) signal(number, SIG_DFL);
}

[[noreturn]] void RunChild(int connection, const std::string& folder, const BoardSource& source) {
  try {
    PrepareProcess();
    if (chdir(folder.c_str()) != 0) _exit(static_cast<int>(ExitCode::kServe));
    RegisterRemoteFunctions(folder, source);
    ShareParallelLoops();
    Call(Global("rpc.ServerLoop"), {Int(connection)}, ExitCode::kRun, "session");
    _exit(0);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "tvmbuild-runner: %s\n", Printable(error.what()).c_str());
    _exit(static_cast<int>(ExitCode::kRun));
  }
}

// Waits for the end of the child. Its end of a pipe, which only it holds, closes with it, however it ends.
std::string Supervise(const SessionRequest& request, pid_t child, int pipe, const volatile sig_atomic_t* stop) {
  const Clock::time_point start = Clock::now();
  Clock::time_point left{};
  bool gone = false;
  std::string reason;
  while (reason.empty()) {
    pollfd waited[] = {{pipe, POLLIN, 0}, {gone ? -1 : request.connection.number(), POLLRDHUP, 0}};
    poll(waited, 2, kPollMs);
    if (waited[0].revents != 0) break;
    if (!gone && (waited[1].revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0) {
      gone = true;
      left = Clock::now();
    }
    if (gone && Since(left) > kGraceMs) reason = "client left";
    if (request.timeout_ms > 0 && Since(start) > request.timeout_ms) reason = "time-out";
    if (*stop != 0) reason = "server stops";
  }
  if (!reason.empty()) kill(child, SIGKILL);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  // Whatever the candidate started goes too.
  kill(-child, SIGKILL);
  if (!reason.empty()) return reason;
  if (WIFSIGNALED(status)) return "crash with signal " + std::to_string(WTERMSIG(status));
  return WEXITSTATUS(status) == 0 || gone ? "done" : "exit with " + std::to_string(WEXITSTATUS(status));
}

// Answers whatever the client waits for. What it may have sent meanwhile is read first: closing a socket with unread
// bytes would reset the connection, and the answer could be lost.
void TellClient(int connection, const std::string& reason) {
  const std::string message =
      reason == "time-out" ? "RPCSessionTimeoutError: tvmbuild-session: time-out" : "tvmbuild-session: " + reason;
  SetTimeLimit(connection, 500);
  try {
    Call(Global("rpc.ReturnException"), {Int(connection), Text(message.c_str())}, ExitCode::kRun, "answer");
  } catch (const Failure&) {
    return;
  }
  shutdown(connection, SHUT_WR);
  char block[1 << 16];
  const Clock::time_point start = Clock::now();
  while (Since(start) < 1000 && recv(connection, block, sizeof(block), 0) > 0) {
  }
}

}  // namespace

std::string ServeSession(SessionRequest request, const BoardSource& source, const volatile sig_atomic_t* stop,
                         const std::function<void()>& leave_others) {
  const SessionFolder folder;
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0)
    throw Failure(ExitCode::kServe, std::string("cannot make a pipe: ") + std::strerror(errno));
  const Descriptor reading(ends[0]);
  Descriptor writing(ends[1]);
  const pid_t child = fork();
  if (child < 0) throw Failure(ExitCode::kServe, std::string("cannot start a process: ") + std::strerror(errno));
  if (child == 0) {
    leave_others();
    RunChild(request.connection.number(), folder.path(), source);
  }
  writing.Close();
  const std::string end = Supervise(request, child, reading.number(), stop);
  if (end != "done" && end != "client left") TellClient(request.connection.number(), end);
  return end;
}

void RemoveAbandonedFolders() {
  const std::string parent = TemporaryFolder();
  const Folder folder = OpenFolder(parent);
  if (folder == nullptr) return;
  while (const dirent* entry = readdir(folder.get())) {
    const std::string name = entry->d_name;
    if (name.rfind(kFolderPrefix, 0) != 0) continue;
    const pid_t owner = OwnerOf(name);
    if (owner > 0 && kill(owner, 0) != 0 && errno == ESRCH) RemoveTree(parent + "/" + name);
  }
}

}  // namespace tvmbuild
