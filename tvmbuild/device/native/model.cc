#include "model.h"

#include <memory>

#include "failure.h"

namespace tvmbuild {
namespace {

// Whether the virtual machine refused its arguments, which it checks before it starts. It says so by the kind of its
// error for types, but by the words alone for their sizes.
bool IsInputError(const std::string& kind, const std::string& message) {
  return kind == "ValueError" || kind == "TypeError" || message.find(", loc=param[") != std::string::npos;
}

Value Method(const Value& module, const char* name, const std::string& path) {
  Value function = Call(Global("ffi.ModuleGetFunction"), {module.any(), Text(name), Boolean(true)}, ExitCode::kLibrary,
                        "cannot look up " + std::string(name));
  if (function.type() != kTVMFFIFunction) {
    throw Failure(ExitCode::kLibrary, path + " is a shared library but holds no compiled model (it has no '" + name + "')");
  }
  return function;
}

// Keeps an array alive for as long as the tensor that the runtime makes of it.
struct ManagedArray {
  NpyArray array;
  DLManagedTensor managed{};
};

Value ToTensor(NpyArray array) {
  auto holder = std::make_unique<ManagedArray>();
  holder->array = std::move(array);
  DLTensor& tensor = holder->managed.dl_tensor;
  tensor.data = holder->array.data.get();
  tensor.device = {kDLCPU, 0};
  tensor.ndim = static_cast<int32_t>(holder->array.shape.size());
  tensor.dtype = holder->array.dtype;
  tensor.shape = holder->array.shape.data();
  holder->managed.manager_ctx = holder.get();
  holder->managed.deleter = [](DLManagedTensor* self) { delete static_cast<ManagedArray*>(self->manager_ctx); };
  TVMFFIObjectHandle handle = nullptr;
  if (TVMFFITensorFromDLPack(&holder->managed, kAlignment, 1, &handle) != 0) {
    throw Failure(ExitCode::kInput, "the runtime refuses an input: " + RaisedMessage());
  }
  holder.release();
  return Object(handle);
}

void Collect(const TVMFFIAny& any, std::vector<Output>* outputs) {
  if (any.type_index == kTVMFFITensor) {
    const DLTensor* tensor = TVMFFITensorGetDLTensorPtr(any.v_obj);
    Output output;
    output.dtype = tensor->dtype;
    output.shape.assign(tensor->shape, tensor->shape + tensor->ndim);
    output.data = static_cast<const char*>(tensor->data) + tensor->byte_offset;
    outputs->push_back(std::move(output));
  } else if (any.type_index == kTVMFFIArray) {
    const auto* cell = reinterpret_cast<const TVMFFISeqCell*>(reinterpret_cast<const char*>(any.v_obj) + sizeof(TVMFFIObject));
    for (int64_t i = 0; i < cell->size; ++i) Collect(static_cast<const TVMFFIAny*>(cell->data)[i], outputs);
  } else {
    throw Failure(ExitCode::kRun, "the model returned something that is no tensor (tvm-ffi type " +
                                      std::to_string(any.type_index) + ")");
  }
}

}  // namespace

Model::Model(const std::string& path) {
  module_ = Call(Global("ffi.ModuleLoadFromFile"), {Text(path.c_str())}, ExitCode::kLibrary, "cannot load " + path);
  machine_ = Call(Method(module_, "vm_load_executable", path), {}, ExitCode::kLibrary, "cannot load the model in " + path);
  constexpr int64_t kPooledAllocator = 2;
  Call(Method(machine_, "vm_initialization", path), {Int(kDLCPU), Int(0), Int(kPooledAllocator)}, ExitCode::kLibrary,
       "cannot start the model in " + path);
  main_ = Method(machine_, "main", path);
  const Value arity = Call(Method(machine_, "get_function_arity", path), {Text("main")}, ExitCode::kLibrary,
                           "cannot read the inputs of the model in " + path);
  input_count_ = static_cast<size_t>(arity.any().v_int64);
}

void Model::SetInputs(std::vector<NpyArray> inputs) {
  if (inputs.size() != input_count_) {
    throw Failure(ExitCode::kInput, "the inputs do not fit the model: it has " + std::to_string(input_count_) +
                                        ", but " + std::to_string(inputs.size()) + " were given");
  }
  inputs_.clear();
  for (NpyArray& input : inputs) inputs_.push_back(ToTensor(std::move(input)));
}

void Model::Run() {
  result_ = Value();
  std::vector<TVMFFIAny> arguments;
  for (const Value& input : inputs_) arguments.push_back(input.any());
  TVMFFIAny result{};
  if (TVMFFIFunctionCall(main_.object(), arguments.data(), static_cast<int32_t>(arguments.size()), &result) != 0) {
    std::string kind;
    const std::string message = RaisedMessage(&kind);
    const bool is_input = IsInputError(kind, message);
    throw Failure(is_input ? ExitCode::kInput : ExitCode::kRun,
                  (is_input ? "the inputs do not fit the model: " : "the model failed: ") + message);
  }
  result_ = Value(result);
}

std::vector<Output> Model::Outputs() const {
  std::vector<Output> outputs;
  Collect(result_.any(), &outputs);
  return outputs;
}

}  // namespace tvmbuild
