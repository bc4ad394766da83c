// Which mapped file a piece of guest code comes from.
#ifndef TVMBUILD_QEMU_PLUGIN_MODULE_MAP_H_
#define TVMBUILD_QEMU_PLUGIN_MODULE_MAP_H_

#include <stdint.h>

typedef struct {
  int module;       // index for module_path; 0 is code of no file
  uint64_t offset;  // in the file, bytes
} code_location;

// Locates a host address of guest code; reads /proc/self/maps again when the address is new.
code_location module_locate(uint64_t host_address);

// Number of known modules, and the path of one.
int module_count(void);
const char* module_path(int module);

#endif
