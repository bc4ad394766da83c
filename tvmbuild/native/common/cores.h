// The cores that are known by name. Generated: python -m tvmbuild.target.cores
#ifndef TVMBUILD_COMMON_CORES_H_
#define TVMBUILD_COMMON_CORES_H_

struct KnownCore {
  unsigned part;         // of Arm Limited, as in MIDR_EL1
  const char* llvm_cpu;  // LLVM's name
  const char* name;      // for people
};

constexpr unsigned kArmLimited = 0x41;
// clang-format off: one core a line
constexpr KnownCore kKnownCores[] = {
    {0xd03, "cortex-a53", "Cortex-A53"},
    {0xd04, "cortex-a35", "Cortex-A35"},
    {0xd05, "cortex-a55", "Cortex-A55"},
    {0xd07, "cortex-a57", "Cortex-A57"},
    {0xd08, "cortex-a72", "Cortex-A72"},
    {0xd09, "cortex-a73", "Cortex-A73"},
    {0xd0a, "cortex-a75", "Cortex-A75"},
    {0xd0b, "cortex-a76", "Cortex-A76"},
    {0xd0c, "neoverse-n1", "Neoverse N1"},
    {0xd0d, "cortex-a77", "Cortex-A77"},
    {0xd40, "neoverse-v1", "Neoverse V1"},
    {0xd41, "cortex-a78", "Cortex-A78"},
};
// clang-format on

#endif  // TVMBUILD_COMMON_CORES_H_
