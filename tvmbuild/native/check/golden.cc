#include "check/golden.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>

#include "check/refusal.h"

namespace tvmbuild {
namespace {

template <typename T>
double Read(const void* data, size_t index) {
  T value;
  std::memcpy(&value, static_cast<const char*>(data) + index * sizeof(T), sizeof(T));
  return static_cast<double>(value);
}

double ReadHalf(const void* data, size_t index) {
  uint16_t bits;
  std::memcpy(&bits, static_cast<const char*>(data) + index * sizeof(bits), sizeof(bits));
  const int exponent = (bits >> 10) & 31, fraction = bits & 1023;
  const double size =
      exponent == 31  ? (fraction ? std::numeric_limits<double>::quiet_NaN() : std::numeric_limits<double>::infinity())
      : exponent == 0 ? std::ldexp(fraction, -24)
                      : std::ldexp(1024 + fraction, exponent - 25);
  return bits & 0x8000 ? -size : size;
}

using Reader = double (*)(const void*, size_t);

Reader ReaderOf(DLDataType dtype) {
  if (dtype.code == kDLFloat) return dtype.bits == 64 ? Read<double> : dtype.bits == 32 ? Read<float> : ReadHalf;
  if (dtype.code == kDLInt) {
    return dtype.bits == 64   ? Read<int64_t>
           : dtype.bits == 32 ? Read<int32_t>
           : dtype.bits == 16 ? Read<int16_t>
                              : Read<int8_t>;
  }
  return dtype.bits == 64   ? Read<uint64_t>
         : dtype.bits == 32 ? Read<uint32_t>
         : dtype.bits == 16 ? Read<uint16_t>
                            : Read<uint8_t>;
}

bool SameType(DLDataType a, DLDataType b) { return a.code == b.code && a.bits == b.bits && a.lanes == b.lanes; }

}  // namespace

double RelativeDifference(const NpyArray& expected, const NpyArray& given) {
  if (!SameType(expected.dtype, given.dtype) || expected.shape != given.shape) {
    throw Refusal("has another type or shape than the golden one");
  }
  const Reader read = ReaderOf(expected.dtype);
  const size_t count = expected.bytes / (expected.dtype.bits / 8);
  double largest = 0, scale = 0;
  for (size_t i = 0; i < count; ++i) {
    const double a = read(expected.data.get(), i), b = read(given.data.get(), i);
    if (std::isfinite(a)) scale = std::max(scale, std::fabs(a));
    if (a == b || (std::isnan(a) && std::isnan(b))) continue;
    const bool finite = std::isfinite(a) && std::isfinite(b);
    largest = std::max(largest, finite ? std::fabs(a - b) : std::numeric_limits<double>::infinity());
  }
  return largest / (scale == 0 ? 1 : scale);
}

double CheckOutputs(const std::string& folder, const Library& library, const std::string& outputs) {
  double worst = 0;
  for (size_t i = 0; i < library.outputs.size(); ++i) {
    const GoldenOutput& golden = library.outputs[i];
    const NpyArray expected = ReadNpy(folder + "/" + golden.path);
    const NpyArray given = ReadNpy(outputs + "/output_" + std::to_string(i) + ".npy");
    const double difference = RelativeDifference(expected, given);
    if (!(difference <= golden.tolerance)) {
      char text[128];
      std::snprintf(text, sizeof(text),
                    "output %zu differs from the golden one by %.1e of its largest value; %.0e is allowed", i,
                    difference, golden.tolerance);
      throw Refusal(text);
    }
    worst = std::max(worst, difference);
  }
  return worst;
}

}  // namespace tvmbuild
