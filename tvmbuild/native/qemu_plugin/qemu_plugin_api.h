// The part of QEMU's TCG plugin interface that the profiler uses, declared by hand so that no QEMU headers are needed
// (Debian and Ubuntu package none). Source: QEMU's documentation, "QEMU TCG Plugins", API versions 1 to 3.
//
// QEMU_PLUGIN_API is the version that the running QEMU wants: 1 for QEMU before 9.0, 2 for 9.0, 3 from 9.1 on. Of what
// is used here only qemu_plugin_insn_data differs between them.
#ifndef TVMBUILD_QEMU_PLUGIN_QEMU_PLUGIN_API_H_
#define TVMBUILD_QEMU_PLUGIN_QEMU_PLUGIN_API_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PLUGIN_EXPORT __attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
typedef uint32_t qemu_plugin_meminfo_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;

typedef struct {
  const char* target_name;
  struct {
    int min;
    int cur;
  } version;
  bool system_emulation;
  struct {
    int smp_vcpus;
    int max_vcpus;
  } system;
} qemu_info_t;

enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS };
enum qemu_plugin_mem_rw { QEMU_PLUGIN_MEM_R = 1, QEMU_PLUGIN_MEM_W, QEMU_PLUGIN_MEM_RW };

typedef void (*translation_callback)(qemu_plugin_id_t, struct qemu_plugin_tb*);
typedef void (*execution_callback)(unsigned vcpu, void* user);
typedef void (*memory_callback)(unsigned vcpu, qemu_plugin_meminfo_t, uint64_t address, void* user);
typedef void (*system_call_callback)(qemu_plugin_id_t, unsigned vcpu, int64_t number, uint64_t a1, uint64_t a2,
                                     uint64_t a3, uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8);

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, translation_callback);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb*, execution_callback, enum qemu_plugin_cb_flags,
                                          void* user);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn*, memory_callback, enum qemu_plugin_cb_flags,
                                      enum qemu_plugin_mem_rw, void* user);
void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t, system_call_callback);
bool qemu_plugin_mem_is_store(qemu_plugin_meminfo_t);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb*);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb*);
struct qemu_plugin_insn* qemu_plugin_tb_get_insn(const struct qemu_plugin_tb*, size_t index);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn*);
void* qemu_plugin_insn_haddr(const struct qemu_plugin_insn*);
#if QEMU_PLUGIN_API >= 3
size_t qemu_plugin_insn_data(const struct qemu_plugin_insn*, void* destination, size_t size);
#else
const void* qemu_plugin_insn_data(const struct qemu_plugin_insn*);
#endif

#endif
