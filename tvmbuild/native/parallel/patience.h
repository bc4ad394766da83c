// Waiting for what comes soon: in a busy loop while the cores are ours, not at all while others want them.
#ifndef TVMBUILD_PARALLEL_PATIENCE_H_
#define TVMBUILD_PARALLEL_PATIENCE_H_

#include <sched.h>

#include <atomic>
#include <chrono>
#include <cstdint>

namespace tvmbuild {

// Whether somebody else has lately run on our cores, as seen by all who wait.
//
// A busy loop saves the microseconds of going to sleep and waking. With a busy process on the core it costs
// milliseconds: the loop uses up the share of the core that the next task needs. A thread that sleeps instead has a
// claim, and gets the core as soon as it is woken.
class Patience {
 public:
  // Waits up to `nanoseconds` until `ready()`. Returns whether it is; at once while the cores are contended.
  //
  // `offers` is for those whom nobody waits for: they offer their core first, which takes no time when nobody wants it.
  template <typename Ready>
  bool Await(Ready ready, int64_t nanoseconds, bool offers) {
    if (ready()) return true;
    const int64_t start = Now();
    if (start < contended_until_.load(std::memory_order_relaxed)) return false;
    if (offers) sched_yield();
    for (int64_t last = start;;) {
      const int64_t now = Now();
      if (now - last > kGap) {
        contended_until_.store(now + kMemory, std::memory_order_relaxed);
        return ready();
      }
      if (now - start > nanoseconds) return false;
      last = now;
      for (int i = 0; i < kLooks; ++i) {
        Pause();
        if (ready()) return true;
      }
    }
  }

 private:
  // Between two readings of the clock: whoever misses so many nanoseconds did not run meanwhile.
  static constexpr int64_t kGap = 20'000;
  // For how long the cores count as contended.
  static constexpr int64_t kMemory = 50'000'000;
  static constexpr int kLooks = 16;

  static int64_t Now() {
    using std::chrono::steady_clock;
    return std::chrono::duration_cast<std::chrono::nanoseconds>(steady_clock::now().time_since_epoch()).count();
  }

  static void Pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("isb" ::: "memory");  // "yield" takes no time on these cores
#endif
  }

  std::atomic<int64_t> contended_until_{0};
};

}  // namespace tvmbuild

#endif  // TVMBUILD_PARALLEL_PATIENCE_H_
