#include "runtime/threads.h"

#include <sched.h>

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <string>

#include "common/number.h"

namespace tvmbuild {
namespace {

constexpr int kMostThreads = 1024;
constexpr const char* kVariable = "TVM_NUM_THREADS";

int UsableCores() {
  cpu_set_t cores;
  return sched_getaffinity(0, sizeof(cores), &cores) == 0 ? CPU_COUNT(&cores) : 1;
}

}  // namespace

void SetThreads(int asked) {
  const int replace = asked > 0 ? 1 : 0;
  if (!replace && std::getenv("OMP_NUM_THREADS") != nullptr) return;
  setenv(kVariable, std::to_string(replace ? asked : UsableCores()).c_str(), replace);
}

int Threads() {
  const char* told = std::getenv(kVariable);
  if (told == nullptr) told = std::getenv("OMP_NUM_THREADS");
  if (told == nullptr) return UsableCores();
  const int64_t number = LeadingNumber(told, std::numeric_limits<int64_t>::max()).value_or(1);
  return static_cast<int>(std::clamp<int64_t>(number, 1, kMostThreads));
}

}  // namespace tvmbuild
