#include "parallel_loops.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>

typedef struct loop {
  uint64_t body, launches, tasks, instructions, longest;
  struct loop *next;
} loop;

static loop *loops, *current;
static bool in_task;
static uint64_t of_task, longest;

static loop *find_or_add(uint64_t body) {
  for (loop *known = loops; known != NULL; known = known->next) {
    if (known->body == body) return known;
  }
  loop *added = calloc(1, sizeof *added);
  if (added == NULL) abort();
  added->body = body;
  added->next = loops;
  return loops = added;
}

void loops_begin_task(uint64_t body) {
  current = find_or_add(body);
  of_task = 0;
  in_task = true;
}

void loops_execute(uint32_t instructions) {
  if (in_task) of_task += instructions;
}

void loops_end_task(void) {
  if (!in_task) return;
  in_task = false;
  current->tasks++;
  current->instructions += of_task;
  if (of_task > longest) longest = of_task;
}

void loops_end_launch(void) {
  if (current == NULL) return;
  current->launches++;
  current->longest += longest;
  longest = 0;
  current = NULL;
}

void loops_clear(void) {
  for (loop *each = loops; each != NULL; each = each->next) {
    each->launches = each->tasks = each->instructions = each->longest = 0;
  }
}

void loops_write(FILE *file) {
  for (const loop *each = loops; each != NULL; each = each->next) {
    if (each->launches == 0) continue;
    fprintf(file, "L %" PRIx64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", each->body, each->launches,
            each->tasks, each->instructions, each->longest);
  }
}
