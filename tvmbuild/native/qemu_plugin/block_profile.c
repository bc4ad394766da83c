// QEMU user-mode plugin: how often each translated block of the guest ran, and what it missed in a model of the caches.
//
// The guest marks the region to measure by a system call that does not exist, which costs nothing on a real board:
//   syscall(0x7b70, 1, 0)           start: all counters to zero (the caches keep their contents)
//   syscall(0x7b70, 2, tag)         stop, and append the region to the output
//   syscall(0x7b70, 3, 0)           let the cache model see accesses, without counting
//   syscall(0x7b70, 4, 0)           empty the caches
//   syscall(0x7b70, 5, task, body)  a task of a parallel loop begins, whose code is at the address `body`
//   syscall(0x7b70, 6, 0)           it ends
//   syscall(0x7b70, 7, 0)           all tasks of the loop have ended
// Tasks run one after the other and stand for one core each; see cache_levels.h. Counters are exact for any number of
// threads; the cache model is not locked and means something for one thread at a time only.
//
// Arguments: out=FILE, and optionally l1=, l2= and l3=, in this order, which turn the cache model on; see levels_add.
// Output, text lines: "P 2" (version of this format), then per region
//   R tag instructions accesses
//   M module path                (path up to the end of the line; empty for code of no file)
//   L body launches tasks instructions longest
//                                (a parallel loop: its instructions, and those of the longest task of each launch added
//                                up)
//   B count address module offset l1_misses l2_misses memory_reads memory_writes code
// Addresses, offsets and code are hexadecimal, code with 8 digits an instruction.
#define _GNU_SOURCE
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache_levels.h"
#include "module_map.h"
#include "parallel_loops.h"
#include "qemu_plugin_api.h"

enum { MARKER_CALL = 0x7b70 };
enum {
  MARKER_START = 1,
  MARKER_STOP,
  MARKER_WARM,
  MARKER_EMPTY,
  MARKER_TASK,
  MARKER_TASK_END,
  MARKER_LAUNCH_END,
};
enum { TABLE_SIZE = 1 << 16, INSTRUCTION_BYTES = 4 };

typedef struct block {
  uint64_t address;
  uint64_t count;
  line_counts lines;
  uint32_t instructions;
  uint32_t *code;
  code_location location;
  struct block *next_in_bucket, *next;
} block;

PLUGIN_EXPORT int qemu_plugin_version = QEMU_PLUGIN_API;

static const char *output_path;
static bool counting, warming;
static uint64_t accesses;
static block *buckets[TABLE_SIZE], *blocks;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static void on_execution(unsigned vcpu, void *user) {
  (void)vcpu;
  block *self = user;
  if (!counting) return;
  __atomic_fetch_add(&self->count, 1, __ATOMIC_RELAXED);
  loops_execute(self->instructions);
}

static void on_access(unsigned vcpu, qemu_plugin_meminfo_t info, uint64_t address, void *user) {
  (void)vcpu;
  if (!counting && !warming) return;
  accesses++;
  levels_access(&((block *)user)->lines, address, qemu_plugin_mem_is_store(info));
}

static uint32_t read_instruction(const struct qemu_plugin_insn *instruction) {
  uint32_t word = 0;
#if QEMU_PLUGIN_API >= 3
  qemu_plugin_insn_data(instruction, &word, sizeof word);
#else
  memcpy(&word, qemu_plugin_insn_data(instruction), sizeof word);
#endif
  return word;
}

// QEMU translates a block again after it dropped its translations, and code may be replaced at the same address: a
// block is known by its address and its code.
static block *find_or_add(const struct qemu_plugin_tb *translation) {
  const uint64_t address = qemu_plugin_tb_vaddr(translation);
  const uint32_t instructions = (uint32_t)qemu_plugin_tb_n_insns(translation);
  uint32_t *code = malloc(instructions * sizeof *code);
  if (code == NULL) abort();
  for (uint32_t i = 0; i < instructions; i++) code[i] = read_instruction(qemu_plugin_tb_get_insn(translation, i));

  block **bucket = &buckets[(address / INSTRUCTION_BYTES * 0x9E3779B97F4A7C15u) >> 48];
  for (block *known = *bucket; known != NULL; known = known->next_in_bucket) {
    if (known->address == address && known->instructions == instructions &&
        memcmp(known->code, code, instructions * sizeof *code) == 0) {
      free(code);
      return known;
    }
  }
  block *added = calloc(1, sizeof *added);
  if (added == NULL) abort();
  added->address = address;
  added->instructions = instructions;
  added->code = code;
  added->location = module_locate((uint64_t)(uintptr_t)qemu_plugin_insn_haddr(qemu_plugin_tb_get_insn(translation, 0)));
  added->next_in_bucket = *bucket;
  added->next = blocks;
  *bucket = blocks = added;
  return added;
}

static void on_translation(qemu_plugin_id_t id, struct qemu_plugin_tb *translation) {
  (void)id;
  pthread_mutex_lock(&mutex);
  block *self = find_or_add(translation);
  pthread_mutex_unlock(&mutex);
  qemu_plugin_register_vcpu_tb_exec_cb(translation, on_execution, QEMU_PLUGIN_CB_NO_REGS, self);
  if (!levels_exist()) return;
  for (uint32_t i = 0; i < self->instructions; i++) {
    qemu_plugin_register_vcpu_mem_cb(qemu_plugin_tb_get_insn(translation, i), on_access, QEMU_PLUGIN_CB_NO_REGS,
                                     QEMU_PLUGIN_MEM_RW, self);
  }
}

static void start_region(void) {
  for (block *each = blocks; each != NULL; each = each->next) {
    each->count = 0;
    each->lines = (line_counts){0};
  }
  accesses = 0;
  loops_clear();
  warming = false;
  counting = true;
}

static void write_block(FILE *file, const block *self) {
  const line_counts *lines = &self->lines;
  fprintf(file, "B %" PRIu64 " %" PRIx64 " %d %" PRIx64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " ",
          self->count, self->address, self->location.module, self->location.offset, lines->l1_misses, lines->l2_misses,
          lines->memory_reads, lines->memory_writes);
  for (uint32_t i = 0; i < self->instructions; i++) fprintf(file, "%08" PRIx32, self->code[i]);
  fputc('\n', file);
}

static void stop_region(int64_t tag) {
  counting = false;
  FILE *file = fopen(output_path, "a");
  if (file == NULL) return;  // the reader reports that the region is missing
  uint64_t instructions = 0;
  for (block *each = blocks; each != NULL; each = each->next) instructions += each->count * each->instructions;
  fprintf(file, "R %" PRId64 " %" PRIu64 " %" PRIu64 "\n", tag, instructions, accesses);
  for (int i = 0; i < module_count(); i++) fprintf(file, "M %d %s\n", i, module_path(i));
  loops_write(file);
  for (block *each = blocks; each != NULL; each = each->next) {
    if (each->count > 0) write_block(file, each);
  }
  fclose(file);
}

static void on_system_call(qemu_plugin_id_t id, unsigned vcpu, int64_t number, uint64_t command, uint64_t tag,
                           uint64_t a3, uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8) {
  (void)id, (void)vcpu, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
  if (number != MARKER_CALL) return;
  pthread_mutex_lock(&mutex);
  if (command == MARKER_START) start_region();
  if (command == MARKER_STOP) stop_region((int64_t)tag);
  if (command == MARKER_WARM) warming = true;
  if (command == MARKER_EMPTY) levels_empty();
  if (command == MARKER_TASK) {
    loops_begin_task(a3);
    levels_begin_task(tag);
  }
  if (command == MARKER_TASK_END) {
    loops_end_task();
    levels_end_task();
  }
  if (command == MARKER_LAUNCH_END) {
    loops_end_launch();
    levels_end_launch();
  }
  pthread_mutex_unlock(&mutex);
}

static bool parse_argument(const char *argument) {
  if (strncmp(argument, "out=", 4) == 0) {
    output_path = strdup(argument + 4);
    return output_path != NULL;
  }
  const bool is_level = argument[0] == 'l' && argument[1] != '\0' && argument[2] == '=';
  return is_level && levels_add(argument + 3);
}

PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv) {
  (void)info;
  for (int i = 0; i < argc; i++) {
    if (!parse_argument(argv[i])) {
      fprintf(stderr, "block_profile: wrong argument %s\n", argv[i]);
      return -1;
    }
  }
  FILE *file = output_path == NULL ? NULL : fopen(output_path, "w");
  if (file == NULL) {
    fprintf(stderr, "block_profile: cannot write out=%s\n", output_path == NULL ? "" : output_path);
    return -1;
  }
  fputs("P 2\n", file);
  fclose(file);
  qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
  qemu_plugin_register_vcpu_syscall_cb(id, on_system_call);
  return 0;
}
