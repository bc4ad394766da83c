// Runs the tasks of parallel loops one after the other, for the instruction counter.
#ifndef TVMBUILD_RUNNER_STAGED_TASKS_H_
#define TVMBUILD_RUNNER_STAGED_TASKS_H_

namespace tvmbuild {

// A system call that no kernel has. It fails harmlessly; the instruction counter, a plugin of QEMU, waits for it.
enum class Marker : long { kStart = 1, kStop, kWarm, kEmpty, kTask, kTaskEnd, kLaunchEnd };

void Mark(Marker marker, long number = 0, long address = 0);

// From now on a parallel loop of a model that is loaded later becomes `tasks` tasks, each on a thread of its own, with
// its own stack and workspace, but one after the other and marked: what each executes repeats exactly, and the counter
// knows which task it is of. Must be called before the model is loaded.
void StageTasks(int tasks);

}  // namespace tvmbuild

#endif  // TVMBUILD_RUNNER_STAGED_TASKS_H_
