// Threads that share out the tasks of a parallel loop as they go, so that nobody waits for a core that was taken away.
//
// Tasks are many more than threads. Each thread has a range of them of its own, takes one after the other, and then
// helps where others are behind. A thread that the kernel let run late finds nothing left, and the launcher does not
// wait for it: only a task that somebody has begun is waited for. While nothing disturbs, each thread does its own
// range in order, as with fixed shares: what it left in its cache it finds again.
#ifndef TVMBUILD_PARALLEL_POOL_H_
#define TVMBUILD_PARALLEL_POOL_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "parallel/patience.h"

namespace tvmbuild {

// Does one task; 0 when it is done, anything else is an error.
using PoolTask = int (*)(int task, void* data);

class Pool {
 public:
  // Starts `threads` - 1 threads: the one that calls Run is the other. They may run on any core, unless `bind`: then
  // each stays on one. Throws std::system_error when a thread cannot be started.
  Pool(int threads, bool bind);
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  // Ends the threads. Nobody may be in Run.
  ~Pool();

  // How many threads loops use: all, unless fewer were asked for.
  int threads() const { return used_.load(std::memory_order_relaxed); }

  // Lets loops from the next on use so many threads, at least 1 and at most all.
  void Use(int threads);

  // Does the tasks 0 to `tasks` - 1, each once, in any order, and returns when all are done: 0, or what the first task
  // that failed returned; tasks that were not begun by then are left out.
  //
  // Whoever calls while another thread's tasks are under way, or from within a task, does all of its own: there are
  // never more threads at work than the pool has, and the callers.
  int Run(PoolTask body, void* data, int tasks);

 private:
  static constexpr int kLine = 64;

  // The tasks of one thread that nobody has taken: the next in the low half, the end in the high one.
  struct alignas(kLine) Range {
    std::atomic<uint64_t> left{0};
  };

  void Serve(int self);
  int TakeTasks(int self, int used);
  void Publish(PoolTask body, void* data, int tasks, int used);
  void AwaitOthers();
  void EndThreads();

  const int threads_;
  std::atomic<int> used_;
  Patience patience_;
  std::unique_ptr<Range[]> ranges_;
  std::vector<std::thread> others_;

  // What is to be done. Written by the launcher before it fills the ranges, and read by whoever took a task.
  std::atomic<PoolTask> body_{nullptr};
  std::atomic<void*> data_{nullptr};
  std::atomic<int> failure_{0};

  // How many jobs there were: what idle threads wait for.
  alignas(kLine) std::atomic<int32_t> jobs_{0};
  std::atomic<int32_t> sleepers_{0};
  std::atomic<bool> ends_{false};
  // Tasks that are not done.
  alignas(kLine) std::atomic<int32_t> pending_{0};
  std::atomic<bool> launcher_sleeps_{false};
  alignas(kLine) std::atomic<bool> taken_{false};
};

}  // namespace tvmbuild

#endif  // TVMBUILD_PARALLEL_POOL_H_
