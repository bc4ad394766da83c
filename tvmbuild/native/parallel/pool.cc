#include "parallel/pool.h"

#include <sched.h>
#include <sys/prctl.h>

#include <algorithm>

#include "parallel/futex.h"

namespace tvmbuild {
namespace {

// For how long an idle thread looks for the next loop before it sleeps: longer than most gaps between two of them.
constexpr int64_t kIdleNs = 200'000;
// For how long the launcher looks for the end of the others' last tasks.
constexpr int64_t kJoinNs = 50'000;

// Whether this thread is within a task.
thread_local bool in_task = false;

// Keeps this thread on a core of its own, out of those that the process may use.
void BindSelf(int index) {
  cpu_set_t usable, own;
  if (sched_getaffinity(0, sizeof(usable), &usable) != 0 || index >= CPU_COUNT(&usable)) return;
  int core = 0;
  for (int left = index; left > 0 || !CPU_ISSET(core, &usable); ++core) left -= CPU_ISSET(core, &usable) ? 1 : 0;
  CPU_ZERO(&own);
  CPU_SET(core, &own);
  sched_setaffinity(0, sizeof(own), &own);
}

int RunAlone(PoolTask body, void* data, int tasks) {
  int failure = 0;
  for (int task = 0; task < tasks && failure == 0; ++task) failure = body(task, data);
  return failure;
}

}  // namespace

Pool::Pool(int threads, bool bind)
    : threads_(std::max(threads, 1)), used_(threads_), ranges_(new Range[static_cast<size_t>(threads_)]) {
  try {
    for (int self = 1; self < threads_; ++self) {
      others_.emplace_back([this, self, bind] {
        prctl(PR_SET_NAME, "tvmbuild-loop");  // as top and perf show it
        if (bind) BindSelf(self);
        Serve(self);
      });
    }
  } catch (...) {
    EndThreads();
    throw;
  }
}

Pool::~Pool() { EndThreads(); }

void Pool::EndThreads() {
  ends_.store(true);
  jobs_.fetch_add(1);
  Wake(&jobs_, threads_);
  for (std::thread& thread : others_) thread.join();
}

void Pool::Use(int threads) { used_.store(std::clamp(threads, 1, threads_), std::memory_order_relaxed); }

int Pool::Run(PoolTask body, void* data, int tasks) {
  const int used = std::min(this->threads(), tasks);
  if (used < 2 || in_task || taken_.exchange(true, std::memory_order_acquire)) {
    return RunAlone(body, data, tasks);
  }
  Publish(body, data, tasks, used);
  const int done = TakeTasks(0, used);
  if (pending_.fetch_sub(done) != done) AwaitOthers();
  const int failure = failure_.load(std::memory_order_relaxed);
  taken_.store(false, std::memory_order_release);
  return failure;
}

// Orders matter: a thread may still look at the ranges of the job before, and takes what it finds there.
void Pool::Publish(PoolTask body, void* data, int tasks, int used) {
  body_.store(body, std::memory_order_relaxed);
  data_.store(data, std::memory_order_relaxed);
  failure_.store(0, std::memory_order_relaxed);
  pending_.store(tasks, std::memory_order_relaxed);
  for (int64_t self = 0; self < used; ++self) {
    const auto first = static_cast<uint64_t>(tasks * self / used);
    const auto end = static_cast<uint64_t>(tasks * (self + 1) / used);
    ranges_[static_cast<size_t>(self)].left.store(end << 32 | first, std::memory_order_release);
  }
  jobs_.fetch_add(1);
  // Sequentially consistent like the sleeper's own steps: either it sees the job, or it is seen here. Which of them
  // wake is the kernel's choice; where not all are in use, it might choose only others.
  if (sleepers_.load() > 0) Wake(&jobs_, this->threads() < threads_ ? threads_ : used - 1);
}

// Does what is left, first of one's own. Returns how many tasks that were.
int Pool::TakeTasks(int self, int used) {
  constexpr uint64_t kHalf = 0xffffffff;
  int done = 0;
  in_task = true;
  for (int step = 0; step < used; ++step) {
    std::atomic<uint64_t>& left = ranges_[static_cast<size_t>((self + step) % used)].left;
    for (;;) {
      // Looks before it takes: otherwise each late thread would take the line away from those at work.
      const uint64_t seen = left.load(std::memory_order_relaxed);
      if ((seen & kHalf) >= seen >> 32) break;
      const uint64_t found = left.fetch_add(1, std::memory_order_acquire);
      if ((found & kHalf) >= found >> 32) break;
      ++done;
      // The job lasts for as long as this task is not counted as done: these are its own.
      if (failure_.load(std::memory_order_relaxed) != 0) continue;
      const PoolTask body = body_.load(std::memory_order_relaxed);
      const int result = body(static_cast<int>(found & kHalf), data_.load(std::memory_order_relaxed));
      int none = 0;
      if (result != 0) failure_.compare_exchange_strong(none, result, std::memory_order_relaxed);
    }
  }
  in_task = false;
  return done;
}

void Pool::AwaitOthers() {
  const auto all_done = [this] { return pending_.load(std::memory_order_acquire) == 0; };
  if (patience_.Await(all_done, kJoinNs, false)) return;
  launcher_sleeps_.store(true);
  for (int32_t left = pending_.load(); left != 0; left = pending_.load()) SleepWhile(&pending_, left);
  launcher_sleeps_.store(false, std::memory_order_relaxed);
}

void Pool::Serve(int self) {
  int32_t seen = 0;
  for (;;) {
    const auto has_job = [this, seen] { return jobs_.load(std::memory_order_acquire) != seen; };
    if (!patience_.Await(has_job, kIdleNs, true)) {
      sleepers_.fetch_add(1);
      while (jobs_.load() == seen) SleepWhile(&jobs_, seen);
      sleepers_.fetch_sub(1, std::memory_order_relaxed);
    }
    seen = jobs_.load(std::memory_order_acquire);
    if (ends_.load()) return;
    const int used = used_.load(std::memory_order_relaxed);
    const int done = self < used ? TakeTasks(self, used) : 0;
    if (done > 0 && pending_.fetch_sub(done) == done && launcher_sleeps_.load()) Wake(&pending_, 1);
  }
}

}  // namespace tvmbuild
