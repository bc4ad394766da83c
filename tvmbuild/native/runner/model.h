// A compiled model, loaded through the C interface of tvm-ffi.
//
// Only C functions are called: no exception and no C++ type crosses into the runtime libraries, so that the runner may
// be built by another compiler, with another C++ library, than they were.
#ifndef TVMBUILD_RUNNER_MODEL_H_
#define TVMBUILD_RUNNER_MODEL_H_

#include <cstddef>
#include <string>
#include <vector>

#include "common/npy.h"
#include "runtime/value.h"

namespace tvmbuild {

// One tensor that the model returned.
struct Output {
  DLDataType dtype{};
  std::vector<int64_t> shape;
  const void* data = nullptr;
};

class Model {
 public:
  // Loads the library. Throws Failure(kLibrary).
  explicit Model(const std::string& path);

  // Gives the arrays to the model as its inputs, in order; they are not copied. Throws Failure(kInput) when there are
  // more or fewer than the model has.
  void SetInputs(std::vector<NpyArray> inputs);

  // Runs once. Throws Failure(kInput) when the inputs do not fit, Failure(kRun) when a kernel fails.
  void Run();

  // The outputs of the last run; tuples within tuples are laid out flat. Valid until the next run.
  std::vector<Output> Outputs() const;

 private:
  Value module_;
  Value machine_;
  Value main_;
  size_t input_count_ = 0;
  std::vector<Value> inputs_;
  Value result_;
};

}  // namespace tvmbuild

#endif  // TVMBUILD_RUNNER_MODEL_H_
