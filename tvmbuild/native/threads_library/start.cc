// libtvmbuild_threads.so: for programs that load models by themselves. Whoever loads it before a model has the model's
// parallel loops shared out as the runner has them.

#include <cstdio>
#include <exception>

#include "common/printable.h"
#include "runtime/parallel_loops.h"

namespace tvmbuild {
namespace {

// Runs while the library is loaded, after the runtime library has made its own functions known: that is linked to it. A
// program that cannot have these threads still has TVM's.
__attribute__((constructor)) void Start() {
  try {
    ShareParallelLoops();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "libtvmbuild_threads.so: %s\n", Printable(error.what()).c_str());
  }
}

}  // namespace
}  // namespace tvmbuild
