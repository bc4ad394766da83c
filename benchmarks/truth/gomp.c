// Stands in for GCC's libgomp in an emulated program: the threads of a parallel region run one after the other, each
// marked for tvmbuild's instruction counter, so that what each executes repeats exactly. A region of one thread is
// just called.
#include <unistd.h>

// As in native/qemu_plugin/block_profile.c.
enum { MARKER_CALL = 0x7b70, MARKER_TASK = 5, MARKER_TASK_END, MARKER_LAUNCH_END };

static int asked = 1, threads = 1, thread;

static void run_alone(void (*body)(void *), void *data) {
  const int outer_threads = threads, outer = thread;
  threads = 1, thread = 0;
  body(data);
  threads = outer_threads, thread = outer;
}

void GOMP_parallel(void (*body)(void *), void *data, unsigned wanted, unsigned flags) {
  (void)flags;
  const int count = wanted > 0 ? (int)wanted : asked;
  // A region inside a region has one thread, as in libgomp.
  if (count == 1 || threads > 1) {
    run_alone(body, data);
    return;
  }
  threads = count;
  for (thread = 0; thread < count; thread++) {
    syscall(MARKER_CALL, MARKER_TASK, (long)thread, (long)body);
    body(data);
    syscall(MARKER_CALL, MARKER_TASK_END, 0L, 0L);
  }
  threads = 1, thread = 0;
  syscall(MARKER_CALL, MARKER_LAUNCH_END, 0L, 0L);
}

int omp_get_num_threads(void) { return threads; }
int omp_get_thread_num(void) { return thread; }
int omp_get_max_threads(void) { return asked; }
int omp_get_dynamic(void) { return 0; }
void omp_set_dynamic(int on) { (void)on; }
void omp_set_num_threads(int count) { asked = count; }
