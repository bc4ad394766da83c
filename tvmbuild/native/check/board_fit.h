// What the board is and whether a bundle fits it.
#ifndef TVMBUILD_CHECK_BOARD_FIT_H_
#define TVMBUILD_CHECK_BOARD_FIT_H_

#include <string>
#include <vector>

#include "check/bundle_facts.h"

namespace tvmbuild {

// Name of this core for people ("Cortex-A72").
std::string CoreName();

// Of the features (LLVM's names) those that this core lacks, in their order.
std::vector<std::string> MissingFeatures(const std::vector<std::string>& features);

// Returns one line on the board. Throws Refusal when the bundle is for another architecture or a newer glibc.
std::string CheckBoard(const BundleFacts& facts);

// Returns the library that suits this core best: the one compiled for it, or else the one that uses the most of its
// features. Throws Refusal when the core lacks features of each.
const Library& PickLibrary(const BundleFacts& facts);

}  // namespace tvmbuild

#endif  // TVMBUILD_CHECK_BOARD_FIT_H_
