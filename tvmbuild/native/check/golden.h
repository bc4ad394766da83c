// Comparison of the outputs of a run with those that the bundle carries.
#ifndef TVMBUILD_CHECK_GOLDEN_H_
#define TVMBUILD_CHECK_GOLDEN_H_

#include <string>

#include "check/bundle_facts.h"
#include "common/npy.h"

namespace tvmbuild {

// Largest difference of two arrays, relative to the largest finite value of `expected` (to 1 if that is zero); infinite
// where one side is NaN or infinite and the other is not the same. Throws Refusal when types or shapes differ.
double RelativeDifference(const NpyArray& expected, const NpyArray& given);

// Compares `<outputs>/output_<n>.npy` with the n-th golden output of a library in `folder`. Returns the largest
// relative difference. Throws Refusal when one is beyond its tolerance.
double CheckOutputs(const std::string& folder, const Library& library, const std::string& outputs);

}  // namespace tvmbuild

#endif  // TVMBUILD_CHECK_GOLDEN_H_
