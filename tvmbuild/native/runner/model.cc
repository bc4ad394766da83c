#include "runner/model.h"

#include <memory>

#include "common/failure.h"
#include "runtime/machine.h"

namespace tvmbuild {
namespace {

// Whether the virtual machine refused its arguments, which it checks before it starts. It says so by the kind of its
// error for types, but by the words alone for their sizes.
bool IsInputError(const std::string& kind, const std::string& message) {
  return kind == "ValueError" || kind == "TypeError" || message.find(", loc=param[") != std::string::npos;
}

std::string TypeAndShape(const DLTensor& tensor) {
  const char* const kind = tensor.dtype.code == kDLFloat  ? "float"
                           : tensor.dtype.code == kDLInt  ? "int"
                           : tensor.dtype.code == kDLUInt ? "uint"
                                                          : "bool";
  std::string text = kind + (tensor.dtype.code == kDLBool ? "" : std::to_string(tensor.dtype.bits)) + " [";
  for (int i = 0; i < tensor.ndim; ++i) text += (i == 0 ? "" : ", ") + std::to_string(tensor.shape[i]);
  return text + "]";
}

// What lies between two words, or "" when they are not there.
std::string Between(const std::string& text, const std::string& before, const std::string& behind) {
  const size_t start = text.find(before);
  const size_t end = start == std::string::npos ? start : text.find(behind, start + before.size());
  return end == std::string::npos ? "" : text.substr(start + before.size(), end - start - before.size());
}

// The virtual machine's words on an input, in plain ones: "... loc=param[0], param=x, annotation=R.Tensor((1, 3),
// dtype="float32")) expect Tensor with ndim 2 but get 3".
std::string PlainMismatch(const std::string& message, const std::vector<Value>& inputs) {
  const std::string name = Between(message, ", param=", ","), index = Between(message, "loc=param[", "]");
  const std::string shape = Between(message, "R.Tensor((", ")"), dtype = Between(message, "dtype=\"", "\"");
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (std::to_string(i) != index || shape.empty() || dtype.empty() || inputs[i].type() != kTVMFFITensor) continue;
    // Python's way to write one number.
    const std::string sizes = shape.back() == ',' ? shape.substr(0, shape.size() - 1) : shape;
    return "input " + index + " (" + name + ") must be " + dtype + " [" + sizes + "]; it is " +
           TypeAndShape(*TVMFFITensorGetDLTensorPtr(inputs[i].object()));
  }
  return message;
}

Value Method(const Value& module, const char* name, const std::string& path) {
  Value function = Call(Global("ffi.ModuleGetFunction"), {module.any(), Text(name), Boolean(true)}, ExitCode::kLibrary,
                        "cannot look up " + std::string(name));
  if (function.type() != kTVMFFIFunction) {
    throw Failure(ExitCode::kLibrary,
                  path + " is a shared library but holds no compiled model (it has no '" + name + "')");
  }
  return function;
}

// Keeps an array alive for as long as the tensor that the runtime makes of it.
struct ManagedArray {
  NpyArray array;
  DLManagedTensor managed{};  // NOLINT(bugprone-invalid-enum-default-initialization): ToTensor sets all of it
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
  static_cast<void>(holder.release());
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
    const auto* cell =
        reinterpret_cast<const TVMFFISeqCell*>(reinterpret_cast<const char*>(any.v_obj) + sizeof(TVMFFIObject));
    for (int64_t i = 0; i < cell->size; ++i) Collect(static_cast<const TVMFFIAny*>(cell->data)[i], outputs);
  } else {
    throw Failure(ExitCode::kRun, "the model returned something that is no tensor (tvm-ffi type " +
                                      std::to_string(any.type_index) + ")");
  }
}

}  // namespace

Model::Model(const std::string& path) {
  RequireThisMachine(path);
  module_ = Call(Global("ffi.ModuleLoadFromFile"), {Text(path.c_str())}, ExitCode::kLibrary, "cannot load " + path);
  machine_ =
      Call(Method(module_, "vm_load_executable", path), {}, ExitCode::kLibrary, "cannot load the model in " + path);
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
  arguments.reserve(inputs_.size());
  for (const Value& input : inputs_) arguments.push_back(input.any());
  TVMFFIAny result{};
  if (TVMFFIFunctionCall(main_.object(), arguments.data(), static_cast<int32_t>(arguments.size()), &result) != 0) {
    std::string kind;
    const std::string message = RaisedMessage(&kind);
    const bool is_input = IsInputError(kind, message);
    throw Failure(is_input ? ExitCode::kInput : ExitCode::kRun,
                  is_input ? "the inputs do not fit the model: " + PlainMismatch(message, inputs_)
                           : "the model failed: " + message);
  }
  result_ = Value(result);
}

std::vector<Output> Model::Outputs() const {
  std::vector<Output> outputs;
  Collect(result_.any(), &outputs);
  return outputs;
}

}  // namespace tvmbuild
