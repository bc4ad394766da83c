// How many threads a kernel may use.
#ifndef TVMBUILD_RUNTIME_THREADS_H_
#define TVMBUILD_RUNTIME_THREADS_H_

namespace tvmbuild {

// Tells the runtime how many threads to use; 0 for one a core. Left alone it takes half the cores of an x86 machine,
// and reads their number from /sys anew for each parallel kernel.
void SetThreads(int asked);

// What it was told, at least 1: TVM_NUM_THREADS, else OMP_NUM_THREADS, else one a core that this process may use.
int Threads();

}  // namespace tvmbuild

#endif  // TVMBUILD_RUNTIME_THREADS_H_
