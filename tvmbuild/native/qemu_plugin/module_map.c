#define _GNU_SOURCE
#include "module_map.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
  uint64_t low, high, offset;
  int module;
} mapping;

static mapping *mappings;
static size_t mapping_count, mapping_capacity;
static char **paths;
static int path_count;

static int module_of(const char *path) {
  for (int i = 0; i < path_count; i++) {
    if (strcmp(paths[i], path) == 0) return i;
  }
  char **grown = (char **)realloc((void *)paths, (size_t)(path_count + 1) * sizeof *paths);
  char *copy = strdup(path);
  if (grown == NULL || copy == NULL) abort();
  paths = grown;
  paths[path_count] = copy;
  return path_count++;
}

static void add_mapping(mapping entry) {
  if (mapping_count == mapping_capacity) {
    mapping_capacity = mapping_capacity ? 2 * mapping_capacity : 256;
    mapping *grown = realloc(mappings, mapping_capacity * sizeof *mappings);
    if (grown == NULL) abort();
    mappings = grown;
  }
  mappings[mapping_count++] = entry;
}

static void read_mappings(void) {
  mapping_count = 0;
  module_of("");  // takes index 0
  FILE *file = fopen("/proc/self/maps", "r");
  if (file == NULL) return;
  char *line = NULL;
  size_t capacity = 0;
  while (getline(&line, &capacity, file) > 0) {
    mapping entry;
    int path_at = 0;
    // The kernel wrote it: 64 bits at most, in this form.
    // NOLINTNEXTLINE(cert-err34-c,bugprone-unchecked-string-to-number-conversion)
    if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %" SCNx64 " %*s %*s %n", &entry.low, &entry.high, &entry.offset,
               &path_at) < 3) {
      continue;
    }
    line[strcspn(line, "\n")] = '\0';  // NOLINT(clang-analyzer-security.ArrayBound): at the latest its own end
    entry.module = path_at > 0 && line[path_at] == '/' ? module_of(line + path_at) : 0;
    add_mapping(entry);
  }
  free(line);
  fclose(file);
}

static const mapping *find(uint64_t address) {
  for (size_t i = 0; i < mapping_count; i++) {
    if (address >= mappings[i].low && address < mappings[i].high) return &mappings[i];
  }
  return NULL;
}

code_location module_locate(uint64_t host_address) {
  const mapping *found = find(host_address);
  // An anonymous mapping may have been replaced by a file's since the last look.
  if (found == NULL || found->module == 0) {
    read_mappings();
    found = find(host_address);
  }
  if (found == NULL) return (code_location){0, 0};
  return (code_location){found->module, host_address - found->low + found->offset};
}

int module_count(void) { return path_count; }

const char *module_path(int module) { return paths[module]; }
