// How the work of each parallel loop is shared out among its tasks.
#ifndef TVMBUILD_QEMU_PLUGIN_PARALLEL_LOOPS_H_
#define TVMBUILD_QEMU_PLUGIN_PARALLEL_LOOPS_H_

#include <stdint.h>
#include <stdio.h>

// A task of the loop whose body is at an address begins, ends; all tasks of the loop have ended.
void loops_begin_task(uint64_t body);
void loops_end_task(void);
void loops_end_launch(void);

// Instructions were executed; they count if a task runs.
void loops_execute(uint32_t instructions);

void loops_clear(void);
void loops_write(FILE* file);

#endif
