// Gives the parallel loops of models to threads of our own instead of TVM's.
#ifndef TVMBUILD_RUNTIME_PARALLEL_LOOPS_H_
#define TVMBUILD_RUNTIME_PARALLEL_LOOPS_H_

namespace tvmbuild {

// Into how many parts a parallel loop is cut for so many threads. A body does the iterations from task * step on, where
// step = ceil(iterations / parts); the pool does not know how many iterations there are. So many parts cut a thread's
// share finely enough, and those beyond the last iteration do nothing.
int PartsFor(int threads);

// Whether the loops are for our threads: TVMBUILD_THREAD_POOL=tvm leaves them to TVM's. Throws Failure(kUsage) when
// that variable has another value than "own" and "tvm".
bool OwnsParallelLoops();

// If so, from now on the parallel loops of every model that this process loads share one pool (parallel/pool.h), whose
// threads start now. As with TVM, TVM_NUM_THREADS (or OMP_NUM_THREADS) says how many there are, the caller included,
// and TVM_BIND_THREADS=1 keeps each on one core; unlike with TVM, they are free to move otherwise.
//
// Must be called before a model is loaded. Throws Failure(kUsage) as above, Failure(kLibrary) when the runtime does not
// allow it or threads cannot be started.
void ShareParallelLoops();

}  // namespace tvmbuild

#endif  // TVMBUILD_RUNTIME_PARALLEL_LOOPS_H_
