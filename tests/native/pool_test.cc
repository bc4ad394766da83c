// Tests of the pool that shares out parallel loops. "pool_test SECONDS" repeats the random ones for so long, for which
// a build with -fsanitize=thread is meant.

#include "parallel/pool.h"

#include <sched.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace tvmbuild;

std::atomic<int> failures{0};

void Expect(bool holds, const std::string& what) {
  if (holds) return;
  std::fprintf(stderr, "FAILED: %s\n", what.c_str());
  ++failures;
}

void Sleep(int microseconds) { std::this_thread::sleep_for(std::chrono::microseconds(microseconds)); }

// Plain numbers: each task has its own, and what a task wrote is read after Run without any further order.
struct Counts {
  explicit Counts(int tasks) : each(static_cast<size_t>(tasks)) {}
  std::vector<int> each;
  bool all(int wanted) const {
    for (const int count : each) {
      if (count != wanted) return false;
    }
    return true;
  }
};

int Count(int task, void* data) {
  ++static_cast<Counts*>(data)->each[static_cast<size_t>(task)];
  return 0;
}

void TestEachTaskIsDoneOnce() {
  for (const int threads : {1, 2, 3, 4, 7}) {
    Pool pool(threads, false);
    Expect(pool.threads() == threads, "the number of threads");
    for (const int tasks : {0, 1, 2, 3, 4, 5, 13, 64, 1000}) {
      Counts counts(tasks);
      constexpr int kTimes = 20;
      for (int i = 0; i < kTimes; ++i) Expect(pool.Run(Count, &counts, tasks) == 0, "a result of 0");
      Expect(counts.all(kTimes), std::to_string(tasks) + " tasks on " + std::to_string(threads) + " threads");
    }
  }
}

void TestNoThreadIsOneThread() {
  Pool pool(0, true);
  Counts counts(3);
  Expect(pool.threads() == 1 && pool.Run(Count, &counts, 3) == 0 && counts.all(1), "a pool of no threads");
}

// The other threads are held up within their first task, until all others are done.
void TestNobodyWaitsForALateThread() {
  struct Held {
    std::thread::id launcher = std::this_thread::get_id();
    std::atomic<int> held{0}, done{0};
  } state;
  constexpr int kTasks = 100;
  const auto body = [](int, void* data) {
    auto* self = static_cast<Held*>(data);
    if (std::this_thread::get_id() == self->launcher) return self->done.fetch_add(1), 0;
    self->held.fetch_add(1);
    while (self->done.load() + self->held.load() < kTasks) Sleep(10);
    return 0;
  };
  Pool pool(3, false);
  Expect(pool.Run(body, &state, kTasks) == 0, "held threads");
  Expect(state.done + state.held == kTasks && state.held <= 2, "the launcher does what held threads do not");
}

void TestTheFirstFailureIsReturnedAndEndsTheLoop() {
  struct State {
    std::atomic<int> begun{0};
    int failing = 0;
  };
  const auto body = [](int task, void* data) {
    auto* state = static_cast<State*>(data);
    state->begun.fetch_add(1);
    return task == state->failing ? -7 : 0;
  };
  for (const int threads : {1, 4}) {
    Pool pool(threads, false);
    for (int failing = 0; failing < 50; failing += 7) {
      State state;
      state.failing = failing;
      Expect(pool.Run(body, &state, 50) == -7, "the failure of a task");
      State next;
      next.failing = -1;
      Expect(pool.Run(body, &next, 50) == 0 && next.begun == 50, "a loop after one that failed");
    }
    State first;
    pool.Run(body, &first, 100000);
    Expect(first.begun < 100000, "tasks after a failure are left out");
  }
}

void TestALoopWithinALoop() {
  struct Outer {
    Pool* pool;
    std::vector<std::unique_ptr<Counts>> inner;
  };
  Pool pool(4, false);
  Outer outer{&pool, {}};
  for (int i = 0; i < 40; ++i) outer.inner.push_back(std::make_unique<Counts>(25));
  const auto body = [](int task, void* data) {
    auto* self = static_cast<Outer*>(data);
    return self->pool->Run(Count, self->inner[static_cast<size_t>(task)].get(), 25);
  };
  Expect(pool.Run(body, &outer, 40) == 0, "nested loops");
  for (const auto& counts : outer.inner) Expect(counts->all(1), "each inner task once");
}

void TestFewerThreads() {
  struct Seen {
    std::atomic<int> at_work{0}, most{0};
  };
  const auto body = [](int, void* data) {
    auto* seen = static_cast<Seen*>(data);
    const int now = seen->at_work.fetch_add(1) + 1;
    if (now > seen->most) seen->most = now;
    Sleep(200);
    seen->at_work.fetch_sub(1);
    return 0;
  };
  Pool pool(4, false);
  for (const int asked : {1, 2, 3, 4, 9, 0, 2}) {
    pool.Use(asked);
    const int wanted = asked < 1 ? 1 : asked > 4 ? 4 : asked;
    Expect(pool.threads() == wanted, "the number of threads asked for");
    Seen seen;
    Expect(pool.Run(body, &seen, 30) == 0 && seen.most <= wanted, "at most so many threads at work");
    Expect(wanted == 1 || seen.most > 1, "more than one where more were asked for");
  }
}

void TestSeveralLaunchers() {
  Pool pool(3, false);
  std::vector<std::thread> launchers;
  for (int launcher = 0; launcher < 4; ++launcher) {
    launchers.emplace_back([&pool, launcher] {
      Counts counts(30 + launcher);
      for (int i = 0; i < 200; ++i) pool.Run(Count, &counts, 30 + launcher);
      Expect(counts.all(200), "tasks of several launchers");
    });
  }
  for (std::thread& launcher : launchers) launcher.join();
}

// Idle threads fall asleep, and wake for the next loop or the end.
void TestPauses() {
  for (const int microseconds : {0, 100, 250, 2000}) {
    Pool pool(4, false);
    Counts counts(16);
    for (int i = 0; i < 10; ++i) {
      Sleep(microseconds);
      pool.Run(Count, &counts, 16);
    }
    Expect(counts.all(10), "loops with pauses");
    Sleep(microseconds);
  }
}

void TestBoundThreadsStayOnOneCore() {
  cpu_set_t before;
  sched_getaffinity(0, sizeof(before), &before);
  struct Seen {
    std::thread::id launcher = std::this_thread::get_id();
    std::atomic<int> widest{0};
  } seen;
  Pool pool(CPU_COUNT(&before), true);
  const auto body = [](int, void* data) {
    auto* self = static_cast<Seen*>(data);
    cpu_set_t cores;
    if (std::this_thread::get_id() == self->launcher || sched_getaffinity(0, sizeof(cores), &cores) != 0) return 0;
    if (CPU_COUNT(&cores) > self->widest) self->widest = CPU_COUNT(&cores);
    return 0;
  };
  for (int i = 0; i < 50; ++i) pool.Run(body, &seen, 1000);
  cpu_set_t after;
  sched_getaffinity(0, sizeof(after), &after);
  Expect(seen.widest <= 1 && CPU_EQUAL(&before, &after) != 0, "bound threads, and a launcher that is not");
}

// Random numbers of threads, tasks, lengths and pauses.
void TestRandomly(int seconds) {
  struct Work {
    Counts counts;
    int length = 0;
  };
  const auto body = [](int task, void* data) {
    auto* work = static_cast<Work*>(data);
    volatile int sum = 0;
    for (int i = 0; i < work->length * (task % 7); ++i) sum = sum + i;
    return Count(task, &work->counts);
  };
  std::mt19937 random(0);
  const auto below = [&random](int most) { return static_cast<int>(random() % static_cast<unsigned>(most)); };
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  do {
    Pool pool(1 + below(6), below(2) == 0);
    for (int loop = 0; loop < 200; ++loop) {
      const int tasks = below(80);
      Work work{Counts(tasks), below(200)};
      Expect(pool.Run(body, &work, tasks) == 0 && work.counts.all(1), "random tasks");
      if (below(50) == 0) Sleep(below(500));
    }
  } while (std::chrono::steady_clock::now() < end);
}

}  // namespace

int main(int argc, char** argv) {
  TestEachTaskIsDoneOnce();
  TestNoThreadIsOneThread();
  TestNobodyWaitsForALateThread();
  TestTheFirstFailureIsReturnedAndEndsTheLoop();
  TestALoopWithinALoop();
  TestFewerThreads();
  TestSeveralLaunchers();
  TestPauses();
  TestBoundThreadsStayOnOneCore();
  TestRandomly(argc > 1 ? std::atoi(argv[1]) : 0);
  std::printf("%d failures\n", failures.load());
  return failures == 0 ? 0 : 1;
}
