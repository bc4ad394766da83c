#include "cache_model.h"

#include <stdlib.h>
#include <string.h>

bool cache_make(cache_model *cache, uint64_t bytes, unsigned ways) {
  if (ways == 0) return false;
  cache->ways = ways;
  cache->sets = (bytes >> CACHE_LINE_SHIFT) / ways;
  if (cache->sets == 0) return false;
  cache->tags = calloc(cache->sets * ways, sizeof *cache->tags);
  return cache->tags != NULL;
}

static unsigned find(const cache_model *cache, const uint64_t *set, uint64_t line) {
  unsigned way = 0;
  while (way < cache->ways && set[way] >> 1 != line + 1) way++;
  return way;
}

static uint64_t *set_of(const cache_model *cache, uint64_t line) {
  return cache->tags + (line % cache->sets) * cache->ways;
}

cache_result cache_access(cache_model *cache, uint64_t line, bool writes) {
  uint64_t *set = set_of(cache, line);
  unsigned way = find(cache, set, line);
  cache_result result = {.hit = way < cache->ways};
  if (result.hit) {
    result.was_dirty = set[way] & 1;
  } else {
    way = cache->ways - 1;
    result.writes_back = set[way] & 1;
    result.victim = (set[way] >> 1) - 1;
  }
  if (way > 0) memmove(set + 1, set, way * sizeof *set);
  set[0] = (line + 1) << 1 | (writes || result.was_dirty);
  return result;
}

void cache_drop(cache_model *cache, uint64_t line) {
  uint64_t *set = set_of(cache, line);
  const unsigned way = find(cache, set, line);
  if (way == cache->ways) return;
  memmove(set + way, set + way + 1, (cache->ways - way - 1) * sizeof *set);
  set[cache->ways - 1] = 0;
}

void cache_empty(cache_model *cache) { memset(cache->tags, 0, cache->sets * cache->ways * sizeof *cache->tags); }
