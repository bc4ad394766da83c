// What this board is and how it is doing, as JSON.
#ifndef TVMBUILD_SERVER_BOARD_FACTS_H_
#define TVMBUILD_SERVER_BOARD_FACTS_H_

#include <string>

namespace tvmbuild {

// Where to look. Below an emulator /proc and /sys are those of the machine outside; its readings are left out then.
struct BoardSource {
  std::string root;  // put before /proc and /sys
  bool emulated = false;
};

// What does not change while the board runs: machine, core, implementer, part, variant, revision, cores, max_mhz,
// model, kernel, glibc, tvm, tvm_ffi, emulated. What is not known is left out.
std::string FingerprintJson(const BoardSource& source);

// temperature_c, mhz, governor, throttled (list of words), free_bytes (where temporary files go), load, free_memory.
std::string HealthJson(const BoardSource& source);

}  // namespace tvmbuild

#endif  // TVMBUILD_SERVER_BOARD_FACTS_H_
