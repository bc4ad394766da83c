// A set-associative cache with true LRU replacement and 64-byte lines: hits, misses and lines written back, no timing.
#ifndef TVMBUILD_QEMU_PLUGIN_CACHE_MODEL_H_
#define TVMBUILD_QEMU_PLUGIN_CACHE_MODEL_H_

#include <stdbool.h>
#include <stdint.h>

enum { CACHE_LINE_SHIFT = 6, MOST_WAYS = 1024, MOST_BYTES = 1 << 30 };

typedef struct {
  uint64_t sets;
  unsigned ways;
  uint64_t* tags;  // [sets][ways], most recently used first; (line + 1) * 2 + whether it is dirty, 0 is empty
} cache_model;

typedef struct {
  bool hit;
  bool was_dirty;    // it was there and changed already
  bool writes_back;  // a dirty line had to go
  uint64_t victim;   // which one
} cache_result;

// Makes an empty cache; false if the geometry is wrong or memory runs out.
bool cache_make(cache_model* cache, uint64_t bytes, unsigned ways);

// Touches a line (address >> CACHE_LINE_SHIFT), which is dirty from then on if `writes`.
cache_result cache_access(cache_model* cache, uint64_t line, bool writes);

// Forgets one line, if it is there; it is not written back.
void cache_drop(cache_model* cache, uint64_t line);

// Forgets every line; nothing is written back.
void cache_empty(cache_model* cache);

#endif
