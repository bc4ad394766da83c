// The caches of a board: a first level of each core, and up to two more levels, each of one core or of all.
//
// The tasks of a parallel loop run one after the other in the emulator, as if each had a core of its own. What they ask
// of a level that all cores share is kept, and replayed at the end of the loop in the order in which it would arrive if
// all had started together and made as many accesses a second: the tasks compete for the shared level as on the board.
//
// A store takes the line out of the other cores' caches. Not modelled: prefetching; stores that fill a line without
// reading it; lines that one core's cache gives another's.
#ifndef TVMBUILD_QEMU_PLUGIN_CACHE_LEVELS_H_
#define TVMBUILD_QEMU_PLUGIN_CACHE_LEVELS_H_

#include <stdbool.h>
#include <stdint.h>

// Lines that one piece of code moved.
typedef struct {
  uint64_t l1_misses;      // accesses that missed the first level
  uint64_t l2_misses;      // of those, that missed the second
  uint64_t memory_reads;   // of those, that missed the third, or all of them where there is none
  uint64_t memory_writes;  // dirty lines that the last level had to write back
} line_counts;

// Adds the next level, "BYTES:WAYS" for one that all cores share or "BYTES:WAYS:each". False if that is wrong.
bool levels_add(const char* geometry);
bool levels_exist(void);

void levels_access(line_counts* counts, uint64_t address, bool writes);

// From now on the accesses are of a task on a core; levels_end_task: of the first core, outside of tasks.
void levels_begin_task(uint64_t core);
void levels_end_task(void);
// All tasks of the loop have ended.
void levels_end_launch(void);

// Empties all caches: what comes next finds nothing.
void levels_empty(void);

#endif
