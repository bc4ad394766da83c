// A set-associative cache with true LRU replacement and 64-byte lines: hits and misses only, no timing.
#ifndef TVMBUILD_QEMU_PLUGIN_CACHE_MODEL_H_
#define TVMBUILD_QEMU_PLUGIN_CACHE_MODEL_H_

#include <stdbool.h>
#include <stdint.h>

enum { CACHE_LINE_SHIFT = 6, MOST_WAYS = 1024, MOST_BYTES = 1 << 30 };

typedef struct {
  uint64_t sets;
  unsigned ways;
  uint64_t* tags;  // [sets][ways], most recently used first; a line is stored as its number + 1, 0 is empty
} cache_model;

// Parses "BYTES:WAYS" into an empty cache; false if the text or the geometry is wrong or memory runs out.
bool cache_parse(cache_model* cache, const char* geometry);

// Touches a line (address >> CACHE_LINE_SHIFT); returns whether it was there.
bool cache_access(cache_model* cache, uint64_t line);

#endif
