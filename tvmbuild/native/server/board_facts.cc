#include "server/board_facts.h"

#include <gnu/libc-version.h>
#include <sched.h>
#include <sys/auxv.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <tvm/ffi/c_api.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "common/cores.h"
#include "common/file.h"
#include "common/number.h"
#include "server/json.h"

#ifndef TVMBUILD_RUNTIME_VERSION
#error "the version of libtvm_runtime.so has to be given"
#endif

namespace tvmbuild {
namespace {

constexpr const char kFrequency[] = "/sys/devices/system/cpu/cpu0/cpufreq/";

// The first line of a file, or all of it; "" if there is none.
std::string Read(const std::string& path, size_t limit = 4096) {
  const File file = OpenFile(path, "r");
  if (file == nullptr) return "";
  std::string text(limit, '\0');
  text.resize(std::fread(&text[0], 1, limit, file.get()));
  return text;
}

std::string Line(const std::string& path) {
  const std::string text = Read(path);
  return text.substr(0, text.find_first_of(std::string("\n\0", 2)));
}

// A whole number at the start of a text, decimal or hexadecimal; -1 if there is none.
int64_t Number(const std::string& text, int base = 10) {
  constexpr int64_t kMost = int64_t{1} << 50;  // more than any reading, and no overflow when its unit changes
  const std::string_view digits = std::string_view(text).substr(base == 16 && text.rfind("0x", 0) == 0 ? 2 : 0);
  return LeadingNumber(digits, kMost, base).value_or(-1);
}

// The value behind "name : " in /proc/cpuinfo or /proc/meminfo.
std::string Field(const std::string& text, const std::string& name) {
  const size_t line = text.rfind(name + "\t", 0) == 0 || text.rfind(name + ":", 0) == 0 ? 0 : text.find("\n" + name);
  if (line == std::string::npos) return "";
  const size_t colon = text.find(':', line);
  const size_t end = text.find('\n', line + 1);
  if (colon == std::string::npos || colon > end) return "";
  const size_t start = text.find_first_not_of(" \t", colon + 1);
  return start == std::string::npos || start >= end ? "" : text.substr(start, end - start);
}

// LLVM's name of an Arm core by its part number in MIDR_EL1.
const char* CoreName(int64_t part) {
  for (const KnownCore& core : kKnownCores) {
    if (static_cast<int64_t>(core.part) == part) return core.llvm_cpu;
  }
  return "";
}

// The core's own identification register, which the kernel (and QEMU) hands to programs; -1 if it does not.
int64_t MainId() {
#if defined(__aarch64__)
  constexpr unsigned long kCpuidBit = 1UL << 11;  // HWCAP_CPUID
  if ((getauxval(AT_HWCAP) & kCpuidBit) != 0) {
    uint64_t value = 0;
    asm("mrs %0, midr_el1" : "=r"(value));
    return static_cast<int64_t>(value & 0xffffffffu);
  }
#endif
  return -1;
}

void AddCore(const BoardSource& source, JsonMembers* json) {
  const std::string info = Read(source.root + "/proc/cpuinfo", 1 << 16);
  const int64_t id = source.root.empty() ? MainId() : -1;
  const int64_t part = id >= 0 ? (id >> 4) & 0xfff : Number(Field(info, "CPU part"), 16);
  json->Add("core", part >= 0 ? CoreName(part) : Field(info, "model name"));
  json->Add("part", part);
  json->Add("implementer", id >= 0 ? id >> 24 : Number(Field(info, "CPU implementer"), 16));
  json->Add("variant", id >= 0 ? (id >> 20) & 15 : Number(Field(info, "CPU variant"), 16));
  json->Add("revision", id >= 0 ? id & 15 : Number(Field(info, "CPU revision")));
}

int64_t Megahertz(const BoardSource& source, const char* name) {
  const int64_t khz = Number(Line(source.root + kFrequency + name));
  return khz < 0 ? -1 : khz / 1000;
}

int64_t MilliDegrees(const BoardSource& source) {
  int64_t first = -1;
  for (int zone = 0; zone < 16; ++zone) {
    const std::string folder = source.root + "/sys/class/thermal/thermal_zone" + std::to_string(zone) + "/";
    const int64_t value = Number(Line(folder + "temp"));
    if (value < 0) continue;
    if (Line(folder + "type").find("cpu") != std::string::npos) return value;
    if (first < 0) first = value;
  }
  return first;
}

// The firmware's flags (https://www.raspberrypi.com/documentation/computers/os.html#get_throttled); -1 if there are
// none.
int64_t ThrottleFlags(const BoardSource& source) {
  const int64_t flags = Number(Line(source.root + "/sys/devices/platform/soc/soc:firmware/get_throttled"), 16);
  if (flags >= 0 || !source.root.empty() || access("/usr/bin/vcgencmd", X_OK) != 0) return flags;
  // The command is a constant with its path, and the firmware's program is the only way to these flags.
  // NOLINTNEXTLINE(bugprone-command-processor)
  std::FILE* pipe = popen("/usr/bin/vcgencmd get_throttled 2>/dev/null", "r");
  if (pipe == nullptr) return -1;
  char text[64] = {};
  const size_t size = std::fread(text, 1, sizeof(text) - 1, pipe);
  pclose(pipe);
  const std::string said(text, size);
  const size_t at = said.find("0x");
  return at == std::string::npos ? -1 : Number(said.substr(at), 16);
}

std::string ThrottleWords(int64_t flags) {
  constexpr struct {
    int bit;
    const char* word;
  } kFlags[] = {{0, "under-voltage"},
                {1, "clock capped"},
                {2, "throttled"},
                {3, "soft temperature limit"},
                {16, "under-voltage before"},
                {17, "clock capped before"},
                {18, "throttled before"},
                {19, "soft temperature limit before"}};
  std::string words;
  for (const auto& flag : kFlags) {
    if ((flags >> flag.bit & 1) != 0) words += (words.empty() ? "" : ", ") + JsonText(flag.word);
  }
  return "[" + words + "]";
}

int64_t FreeBytes() {
  const char* folder = std::getenv("TMPDIR");
  struct statvfs facts{};
  if (statvfs(folder != nullptr ? folder : "/tmp", &facts) != 0) return -1;
  return static_cast<int64_t>(facts.f_bavail) * static_cast<int64_t>(facts.f_frsize);
}

std::string FfiVersion() {
  TVMFFIVersion version{};
  TVMFFIGetVersion(&version);
  return std::to_string(version.major) + "." + std::to_string(version.minor) + "." + std::to_string(version.patch);
}

}  // namespace

std::string FingerprintJson(const BoardSource& source) {
  JsonMembers json;
  utsname system{};
  uname(&system);
  cpu_set_t cores;
  json.Add("machine", system.machine);
  AddCore(source, &json);
  json.Add("cores", sched_getaffinity(0, sizeof(cores), &cores) == 0 ? CPU_COUNT(&cores) : -1);
  json.Add("kernel", system.release);
  json.Add("glibc", gnu_get_libc_version());
  json.Add("tvm", TVMBUILD_RUNTIME_VERSION);
  json.Add("tvm_ffi", FfiVersion());
  json.AddRaw("emulated", source.emulated ? "true" : "false");
  if (!source.emulated || !source.root.empty()) {
    json.Add("max_mhz", Megahertz(source, "cpuinfo_max_freq"));
    json.Add("model", Line(source.root + "/proc/device-tree/model"));
  }
  return json.Object();
}

std::string HealthJson(const BoardSource& source) {
  JsonMembers json;
  json.Add("free_bytes", FreeBytes());
  if (source.emulated && source.root.empty()) return json.Object();
  const int64_t temperature = MilliDegrees(source);
  if (temperature >= 0) {
    json.AddRaw("temperature_c", std::to_string(temperature / 1000) + "." + std::to_string(temperature % 1000 / 100));
  }
  json.Add("mhz", Megahertz(source, "scaling_cur_freq"));
  json.Add("limit_mhz", Megahertz(source, "scaling_max_freq"));
  json.Add("governor", Line(source.root + kFrequency + "scaling_governor"));
  const int64_t flags = ThrottleFlags(source);
  if (flags >= 0) json.AddRaw("throttled", ThrottleWords(flags));
  const std::string load = Line(source.root + "/proc/loadavg");
  if (!load.empty()) json.AddRaw("load", load.substr(0, load.find(' ')));
  const int64_t kib = Number(Field(Read(source.root + "/proc/meminfo"), "MemAvailable"));
  json.Add("free_memory", kib < 0 ? -1 : kib * 1024);
  return json.Object();
}

}  // namespace tvmbuild
