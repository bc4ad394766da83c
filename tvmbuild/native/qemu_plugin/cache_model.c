#include "cache_model.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

// Reads a number from digits alone, up to `end`, which has to follow; false if there is none, or it is beyond `most`.
static bool parse_number(const char **text, char end, uint64_t most, uint64_t *number) {
  char *rest = NULL;
  if (!isdigit((unsigned char)**text)) return false;
  errno = 0;
  const unsigned long long value = strtoull(*text, &rest, 10);
  if (errno != 0 || value > most || *rest != end) return false;
  *text = rest + 1;
  *number = value;
  return true;
}

bool cache_parse(cache_model *cache, const char *geometry) {
  uint64_t bytes = 0, ways = 0;
  if (!parse_number(&geometry, ':', MOST_BYTES, &bytes) || !parse_number(&geometry, '\0', MOST_WAYS, &ways) ||
      ways == 0) {
    return false;
  }
  cache->ways = (unsigned)ways;
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
