#include "cache_model.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool cache_parse(cache_model *cache, const char *geometry) {
  uint64_t bytes;
  unsigned ways;
  if (sscanf(geometry, "%" SCNu64 ":%u", &bytes, &ways) != 2 || ways == 0) return false;
  cache->ways = ways;
  cache->sets = (bytes >> CACHE_LINE_SHIFT) / ways;
  if (cache->sets == 0) return false;
  cache->tags = calloc(cache->sets * ways, sizeof *cache->tags);
  return cache->tags != NULL;
}

bool cache_access(cache_model *cache, uint64_t line) {
  uint64_t *set = cache->tags + (line % cache->sets) * cache->ways;
  const uint64_t tag = line + 1;
  if (set[0] == tag) return true;
  unsigned way = 1;
  while (way < cache->ways && set[way] != tag) way++;
  const bool hit = way < cache->ways;
  if (!hit) way = cache->ways - 1;
  memmove(set + 1, set, way * sizeof *set);
  set[0] = tag;
  return hit;
}
