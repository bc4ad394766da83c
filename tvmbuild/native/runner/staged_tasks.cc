#include "runner/staged_tasks.h"

#include <pthread.h>
#include <tvm/ffi/extra/c_env_api.h>
#include <unistd.h>

#include <memory>
#include <thread>
#include <vector>

#include "common/failure.h"

namespace tvmbuild {
namespace {

// As in TVM's tvm/runtime/c_backend_api.h, which is not among the headers that boards are built with.
struct ParallelGroup {
  void* sync_handle;
  int num_task;
};
using TaskBody = int (*)(int task, ParallelGroup* group, void* closure);

// A thread that does one thing at a time while the asker waits. std::condition_variable would need a newer libstdc++
// than the oldest boards have.
class Worker {
 public:
  Worker() : thread_([this] { Serve(); }) { thread_.detach(); }

  int Do(TaskBody body, int task, ParallelGroup* group, void* closure) {
    pthread_mutex_lock(&mutex_);
    body_ = body, task_ = task, group_ = group, closure_ = closure;
    pthread_cond_broadcast(&changed_);
    while (body_ != nullptr) pthread_cond_wait(&changed_, &mutex_);
    const int result = result_;
    pthread_mutex_unlock(&mutex_);
    return result;
  }

 private:
  void Serve() {
    pthread_mutex_lock(&mutex_);
    for (;;) {
      while (body_ == nullptr) pthread_cond_wait(&changed_, &mutex_);
      Mark(Marker::kTask, task_, reinterpret_cast<long>(body_));
      result_ = body_(task_, group_, closure_);
      Mark(Marker::kTaskEnd);
      body_ = nullptr;
      pthread_cond_broadcast(&changed_);
    }
  }

  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t changed_ = PTHREAD_COND_INITIALIZER;
  TaskBody body_ = nullptr;
  int task_ = 0;
  ParallelGroup* group_ = nullptr;
  void* closure_ = nullptr;
  int result_ = 0;
  std::thread thread_;  // last: it uses all above
};

// Never freed: its threads wait until the process ends.
std::vector<std::unique_ptr<Worker>>* workers;

int Launch(TaskBody body, void* closure, int asked) {
  const int tasks = asked > 0 ? asked : static_cast<int>(workers->size()) + 1;
  ParallelGroup group = {nullptr, tasks};
  int failed = 0;
  for (int task = 0; task < tasks; ++task) {
    const size_t worker = static_cast<size_t>(task) % (workers->size() + 1);
    int result;
    if (worker == 0) {  // as in TVM, the thread that launches takes a share
      Mark(Marker::kTask, task, reinterpret_cast<long>(body));
      result = body(task, &group, closure);
      Mark(Marker::kTaskEnd);
    } else {
      result = (*workers)[worker - 1]->Do(body, task, &group, closure);
    }
    if (result != 0) failed = result;
  }
  Mark(Marker::kLaunchEnd);
  return failed;
}

}  // namespace

void Mark(Marker marker, long number, long address) {
  constexpr long kMarkerCall = 0x7b70;
  syscall(kMarkerCall, static_cast<long>(marker), number, address);
}

void StageTasks(int tasks) {
  workers = new std::vector<std::unique_ptr<Worker>>;
  for (int i = 1; i < tasks; ++i) workers->push_back(std::make_unique<Worker>());
  if (TVMFFIEnvModRegisterContextSymbol("__TVMBackendParallelLaunch", reinterpret_cast<void*>(&Launch)) != 0) {
    throw Failure(ExitCode::kLibrary, "this runtime does not let the runner share out parallel loops");
  }
}

}  // namespace tvmbuild
