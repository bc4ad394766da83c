#include "runtime/threads.h"

#include <sched.h>

#include <cstdlib>
#include <string>

namespace tvmbuild {

void SetThreads(int asked) {
  cpu_set_t cores;
  const int usable = sched_getaffinity(0, sizeof(cores), &cores) == 0 ? CPU_COUNT(&cores) : 1;
  const int replace = asked > 0 ? 1 : 0;
  if (!replace && std::getenv("OMP_NUM_THREADS") != nullptr) return;
  setenv("TVM_NUM_THREADS", std::to_string(replace ? asked : usable).c_str(), replace);
}

}  // namespace tvmbuild
