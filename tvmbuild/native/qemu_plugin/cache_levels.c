#include "cache_levels.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache_model.h"

enum { MOST_LEVELS = 3, MOST_CORES = 16 };

typedef struct {
  cache_model caches[MOST_CORES];  // only the first is used where all cores share it
  bool each;
} level;

typedef struct {
  line_counts *counts;
  uint64_t line, time;
  bool writes;
} request;

typedef struct {
  request *requests;
  size_t count, capacity, replayed;
} stream;

static level levels[MOST_LEVELS];
static int level_count;
static bool in_task;
static unsigned core, cores = 1;  // the one that runs, and how many there are
static uint64_t now;
static stream streams[MOST_CORES];

// Reads a number from digits alone, from 1 to `most`; moves behind it. False if there is none.
static bool parse_number(const char **text, uint64_t most, uint64_t *number) {
  char *rest = NULL;
  if (!isdigit((unsigned char)**text)) return false;
  errno = 0;
  *number = strtoull(*text, &rest, 10);
  *text = rest;
  return errno == 0 && *number > 0 && *number <= most;
}

bool levels_add(const char *geometry) {
  uint64_t bytes = 0, ways = 0;
  if (level_count == MOST_LEVELS || !parse_number(&geometry, MOST_BYTES, &bytes) || *geometry != ':') return false;
  geometry++;
  if (!parse_number(&geometry, MOST_WAYS, &ways)) return false;
  level *added = &levels[level_count];
  added->each = strcmp(geometry, ":each") == 0;
  if (!added->each && *geometry != '\0') return false;
  for (int i = 0; i < (added->each ? MOST_CORES : 1); i++) {
    if (!cache_make(&added->caches[i], bytes, (unsigned)ways)) return false;
  }
  level_count++;
  return true;
}

bool levels_exist(void) { return level_count > 0; }

static void keep(request added) {
  stream *own = &streams[core];
  if (own->count == own->capacity) {
    own->capacity = own->capacity ? 2 * own->capacity : 1 << 16;
    request *grown = realloc(own->requests, own->capacity * sizeof *own->requests);
    if (grown == NULL) abort();
    own->requests = grown;
  }
  own->requests[own->count++] = added;
}

static void pass_down(line_counts *counts, int at, uint64_t line, bool writes);

// A line that a core changes has to be in no other core's caches; what they had changed of it, the core has now.
static void take_from_others(uint64_t line) {
  for (int i = 0; i < level_count && levels[i].each; i++) {
    for (unsigned other = 0; other < cores; other++) {
      if (other != core) cache_drop(&levels[i].caches[other], line);
    }
  }
}

static void touch(line_counts *counts, int at, uint64_t line, bool writes) {
  const cache_result result = cache_access(&levels[at].caches[levels[at].each ? core : 0], line, writes);
  if (at == 0 && writes && !result.was_dirty) take_from_others(line);
  if (result.hit) return;
  // A line that is written back to a level comes whole: nothing has to be read for it. A core's store is a part of one.
  if (at == 0 || !writes) {
    if (at == 0) counts->l1_misses++;
    if (at == 1) counts->l2_misses++;
    pass_down(counts, at + 1, line, false);
  }
  if (result.writes_back) pass_down(counts, at + 1, result.victim, true);
}

static void pass_down(line_counts *counts, int at, uint64_t line, bool writes) {
  if (at == level_count) {
    *(writes ? &counts->memory_writes : &counts->memory_reads) += 1;
  } else if (in_task && !levels[at].each) {
    keep((request){counts, line, now, writes});
  } else {
    touch(counts, at, line, writes);
  }
}

void levels_access(line_counts *counts, uint64_t address, bool writes) {
  now++;
  touch(counts, 0, address >> CACHE_LINE_SHIFT, writes);
}

void levels_begin_task(uint64_t number) {
  core = (unsigned)(number % MOST_CORES);
  if (core >= cores) cores = core + 1;
  in_task = true;
  now = 0;
}

void levels_end_task(void) {
  in_task = false;
  core = 0;
}

static stream *earliest(void) {
  stream *found = NULL;
  for (int i = 0; i < MOST_CORES; i++) {
    stream *own = &streams[i];
    if (own->replayed == own->count) continue;
    if (found == NULL || own->requests[own->replayed].time < found->requests[found->replayed].time) found = own;
  }
  return found;
}

void levels_end_launch(void) {
  int shared = 0;
  while (shared < level_count && levels[shared].each) shared++;
  for (stream *own = earliest(); own != NULL; own = earliest()) {
    const request *next = &own->requests[own->replayed++];
    touch(next->counts, shared, next->line, next->writes);
  }
  for (int i = 0; i < MOST_CORES; i++) streams[i].count = streams[i].replayed = 0;
}

void levels_empty(void) {
  for (int i = 0; i < level_count; i++) {
    for (int j = 0; j < (levels[i].each ? MOST_CORES : 1); j++) cache_empty(&levels[i].caches[j]);
  }
}
