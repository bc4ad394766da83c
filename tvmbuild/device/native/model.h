// A compiled model, loaded through the C interface of tvm-ffi.
//
// Only C functions are called: no exception and no C++ type crosses into the runtime libraries, so that the runner may
// be built by another compiler, with another C++ library, than they were.
#ifndef TVMBUILD_MODEL_H_
#define TVMBUILD_MODEL_H_

#include <tvm/ffi/c_api.h>

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "npy.h"

namespace tvmbuild {

// Owns one value of tvm-ffi.
class Value {
 public:
  Value() = default;
  explicit Value(TVMFFIAny any) : any_(any) {}
  Value(Value&& other) noexcept : any_(std::exchange(other.any_, TVMFFIAny{})) {}
  Value& operator=(Value&& other) noexcept {
    std::swap(any_, other.any_);
    return *this;
  }
  ~Value() {
    if (any_.type_index >= kTVMFFIStaticObjectBegin) TVMFFIObjectDecRef(any_.v_obj);
  }

  int32_t type() const { return any_.type_index; }
  const TVMFFIAny& any() const { return any_; }
  TVMFFIObject* object() const { return any_.v_obj; }

 private:
  TVMFFIAny any_{};
};

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

#endif  // TVMBUILD_MODEL_H_
