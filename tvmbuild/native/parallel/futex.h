// Sleeping until a number changes, without what a newer libc or libstdc++ would be needed for.
#ifndef TVMBUILD_PARALLEL_FUTEX_H_
#define TVMBUILD_PARALLEL_FUTEX_H_

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>

namespace tvmbuild {

static_assert(sizeof(std::atomic<int32_t>) == sizeof(int32_t) && std::atomic<int32_t>::is_always_lock_free,
              "the kernel compares the number itself");

// Sleeps unless the number is another than `seen` already; may return early.
inline void SleepWhile(std::atomic<int32_t>* number, int32_t seen) {
  syscall(SYS_futex, number, FUTEX_WAIT_PRIVATE, seen, nullptr, nullptr, 0);
}

// Wakes up to `count` of those who sleep on the number.
inline void Wake(std::atomic<int32_t>* number, int32_t count) {
  syscall(SYS_futex, number, FUTEX_WAKE_PRIVATE, count, nullptr, nullptr, 0);
}

}  // namespace tvmbuild

#endif  // TVMBUILD_PARALLEL_FUTEX_H_
