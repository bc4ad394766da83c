#include "runtime/parallel_loops.h"

#include <pthread.h>
#include <tvm/ffi/extra/c_env_api.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <system_error>

#include "common/failure.h"
#include "parallel/pool.h"
#include "runtime/function.h"
#include "runtime/threads.h"
#include "runtime/value.h"

namespace tvmbuild {
namespace {

// As in TVM's tvm/runtime/c_backend_api.h, which is not among the headers that boards are built with.
struct ParallelGroup {
  void* sync_handle;
  int num_task;
};
using LoopBody = int (*)(int task, ParallelGroup* group, void* closure);

struct Loop {
  LoopBody body;
  void* closure;
  ParallelGroup group;
  std::atomic<TVMFFIObjectHandle> error{nullptr};
};

// Never freed: its threads wait until the process ends.
std::atomic<Pool*> shared{nullptr};

// A body leaves its error to its own thread, and TVM expects it on the one that launched the loop.
int RunPart(int task, void* data) {
  auto* loop = static_cast<Loop*>(data);
  const int result = loop->body(task, &loop->group, loop->closure);
  if (result == 0) return 0;
  TVMFFIObjectHandle raised = nullptr, none = nullptr;
  TVMFFIErrorMoveFromRaised(&raised);
  if (raised != nullptr && !loop->error.compare_exchange_strong(none, raised)) TVMFFIObjectDecRef(raised);
  return result;
}

Pool* NewPool() {
  const char* bind = std::getenv("TVM_BIND_THREADS");
  return new Pool(Threads(), bind != nullptr && std::strcmp(bind, "1") == 0);
}

// Of a child the threads stayed with its parent; it starts its own with its first loop.
void ForgetPool() { shared.store(nullptr); }

// A child that cannot start threads does its loops alone.
Pool* SharedPool() {
  Pool* pool = shared.load(std::memory_order_acquire);
  if (pool != nullptr) return pool;
  Pool* made = nullptr;
  try {
    made = NewPool();
  } catch (const std::system_error&) {
    made = new Pool(1, false);
  }
  if (shared.compare_exchange_strong(pool, made)) return made;
  delete made;
  return pool;
}

int Launch(LoopBody body, void* closure, int asked) {
  Pool* pool = SharedPool();
  const int parts = asked > 0 ? asked : PartsFor(pool->threads());
  Loop loop{body, closure, {nullptr, parts}};
  const int result = pool->Run(RunPart, &loop, parts);
  if (const TVMFFIObjectHandle error = loop.error.load()) {
    TVMFFIErrorSetRaised(error);
    TVMFFIObjectDecRef(error);
  }
  return result;
}

// A barrier waits for all parts of a loop, which here do not run at the same time. No schedule of tvmbuild's has one.
// The caller does not look at what a barrier returns, so that going on would give wrong numbers.
int RefuseBarrier(int, ParallelGroup*) {
  std::fputs(
      "tvmbuild: a kernel of this library has a barrier in a parallel loop; run it with "
      "TVMBUILD_THREAD_POOL=tvm\n",
      stderr);
  std::abort();
}

// As TVM's: the kind of cores to use, of which all are alike here, how many threads (0 for all), and names of cores.
Value UseThreads(const Arguments& arguments) {
  if (arguments.count < 2 || arguments.first[1].type_index != kTVMFFIInt) {
    throw Failure(ExitCode::kRun, "runtime.config_threadpool takes a mode and a number of threads");
  }
  if (arguments.count > 2) {
    throw Failure(ExitCode::kRun, "cores cannot be chosen one by one; use taskset, or TVMBUILD_THREAD_POOL=tvm");
  }
  const int64_t asked = arguments.first[1].v_int64;
  SharedPool()->Use(asked > 0 && asked < Threads() ? static_cast<int>(asked) : Threads());
  return Value();
}

template <typename Hook>
void Replace(const char* name, Hook* function) {
  if (TVMFFIEnvModRegisterContextSymbol(name, reinterpret_cast<void*>(function)) != 0) {
    throw Failure(ExitCode::kLibrary,
                  std::string("the runtime library does not let go of ") + name + ": " + RaisedMessage());
  }
}

}  // namespace

int PartsFor(int threads) {
  constexpr int kPartsOfThread = 16;
  return threads == 1 ? 1 : kPartsOfThread * threads;
}

bool OwnsParallelLoops() {
  constexpr const char* kVariable = "TVMBUILD_THREAD_POOL";
  const char* value = std::getenv(kVariable);
  const std::string asked = value != nullptr ? value : "";
  if (asked.empty() || asked == "own") return true;
  if (asked == "tvm") return false;
  throw Failure(ExitCode::kUsage, std::string(kVariable) + " is 'own' or 'tvm', not '" + asked + "'");
}

void ShareParallelLoops() {
  if (!OwnsParallelLoops()) return;
  if (shared.load() != nullptr) return;
  try {
    shared.store(NewPool());
  } catch (const std::system_error& error) {
    throw Failure(ExitCode::kLibrary, std::string("cannot start threads: ") + error.what());
  }
  pthread_atfork(nullptr, nullptr, ForgetPool);
  Replace("__TVMBackendParallelLaunch", Launch);
  Replace("__TVMBackendParallelBarrier", RefuseBarrier);
  Register("runtime.config_threadpool", UseThreads);
  Register("runtime.NumThreads", [](const Arguments&) { return Value(Int(SharedPool()->threads())); });
}

}  // namespace tvmbuild
