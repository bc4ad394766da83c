#include "common/npy.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <limits>

#include "common/failure.h"
#include "common/file.h"
#include "common/number.h"

namespace tvmbuild {
namespace {

constexpr char kMagic[] = "\x93NUMPY";
constexpr size_t kMagicSize = 6;
// NumPy itself refuses headers over 10000 characters, unless told that the file is trusted.
constexpr size_t kMaxHeader = 10000;
// DLPack and TVM put no limit on the number of dimensions; NumPy's is 64.
constexpr size_t kMaxDimensions = 64;

[[noreturn]] void Refuse(const std::string& reason) { throw Failure(ExitCode::kInput, reason); }

struct Description {
  const char* text;
  DLDataType dtype;
};

constexpr Description kDescriptions[] = {
    {"|b1", {kDLBool, 8, 1}},  {"|i1", {kDLInt, 8, 1}},    {"<i2", {kDLInt, 16, 1}},   {"<i4", {kDLInt, 32, 1}},
    {"<i8", {kDLInt, 64, 1}},  {"|u1", {kDLUInt, 8, 1}},   {"<u2", {kDLUInt, 16, 1}},  {"<u4", {kDLUInt, 32, 1}},
    {"<u8", {kDLUInt, 64, 1}}, {"<f2", {kDLFloat, 16, 1}}, {"<f4", {kDLFloat, 32, 1}}, {"<f8", {kDLFloat, 64, 1}},
};

// A reader of the header's dictionary: a Python literal of which .npy uses very little.
class HeaderText {
 public:
  HeaderText(const char* text, size_t size) : at_(text), end_(text + size) {}

  void Expect(char wanted) {
    SkipSpaces();
    if (at_ == end_ || *at_ != wanted) Refuse(std::string("its header has no '") + wanted + "' where one belongs");
    ++at_;
  }

  bool TakeIf(char wanted) {
    SkipSpaces();
    if (at_ == end_ || *at_ != wanted) return false;
    ++at_;
    return true;
  }

  std::string String() {
    SkipSpaces();
    if (at_ == end_ || (*at_ != '\'' && *at_ != '"')) Refuse("its header has no string where one belongs");
    const char quote = *at_++;
    const char* start = at_;
    while (at_ != end_ && *at_ != quote && *at_ != '\\') ++at_;
    if (at_ == end_ || *at_ == '\\') Refuse("its header has a string that does not end");
    return std::string(start, at_++);
  }

  bool Boolean() {
    SkipSpaces();
    if (TakeWord("True")) return true;
    if (TakeWord("False")) return false;
    Refuse("its header has no True or False where one belongs");
  }

  std::vector<int64_t> Shape() {
    std::vector<int64_t> shape;
    Expect('(');
    while (!TakeIf(')')) {
      if (shape.size() == kMaxDimensions) Refuse("it has more than 64 dimensions");
      shape.push_back(Number());
      if (!TakeIf(',')) {
        if (shape.size() == 1) Refuse("the shape in its header is not a tuple");
        Expect(')');
        break;
      }
    }
    return shape;
  }

  void ExpectEnd() {
    while (at_ != end_ && (*at_ == ' ' || *at_ == '\n')) ++at_;
    if (at_ != end_) Refuse("its header goes on after the end of the dictionary");
  }

 private:
  void SkipSpaces() {
    while (at_ != end_ && *at_ == ' ') ++at_;
  }

  bool TakeWord(const char* word) {
    const size_t size = std::strlen(word);
    if (static_cast<size_t>(end_ - at_) < size || std::memcmp(at_, word, size) != 0) return false;
    at_ += size;
    return true;
  }

  int64_t Number() {
    SkipSpaces();
    const char* const start = at_;
    while (at_ != end_ && IsDigit(*at_)) ++at_;
    if (at_ == start) Refuse("the shape in its header is not made of numbers");
    const std::string_view digits(start, static_cast<size_t>(at_ - start));
    const std::optional<int64_t> value = WholeNumber(digits, 0, std::numeric_limits<int64_t>::max());
    if (!value) Refuse("a size in its shape is too large");
    return *value;
  }

  const char* at_;
  const char* end_;
};

DLDataType DTypeOf(const std::string& description) {
  for (const Description& known : kDescriptions) {
    if (description == known.text) return known.dtype;
  }
  Refuse("its data type '" + description + "' is not supported");
}

// Returns the length of the header's text and moves `offset` behind the length field.
size_t HeaderLength(const unsigned char* bytes, size_t size, size_t* offset) {
  if (size < kMagicSize + 2 || std::memcmp(bytes, kMagic, kMagicSize) != 0) Refuse("it is not a .npy file");
  const int major = bytes[kMagicSize];
  if (major < 1 || major > 3 || bytes[kMagicSize + 1] != 0) Refuse("its .npy format version is unknown");
  const size_t field = major == 1 ? 2 : 4;
  *offset = kMagicSize + 2;
  if (size < *offset + field) Refuse("its header is cut off");
  size_t length = 0;
  for (size_t i = 0; i < field; ++i) length |= static_cast<size_t>(bytes[*offset + i]) << (8 * i);
  *offset += field;
  if (length > kMaxHeader) Refuse("its header is longer than any real one");
  if (size - *offset < length) Refuse("its header is cut off");
  return length;
}

NpyArray ReadOpenFile(std::FILE* file) {
  if (std::fseek(file, 0, SEEK_END) != 0) Refuse(std::strerror(errno));
  const long file_size = std::ftell(file);
  if (file_size < 0 || std::fseek(file, 0, SEEK_SET) != 0) Refuse(std::strerror(errno));
  std::vector<unsigned char> start(kMagicSize + 6 + kMaxHeader);
  start.resize(std::fread(start.data(), 1, start.size(), file));
  NpyHeader header = ParseNpyHeader(start.data(), start.size(), static_cast<uint64_t>(file_size));

  NpyArray array;
  array.dtype = header.dtype;
  array.shape = std::move(header.shape);
  array.bytes = header.data_bytes;
  // aligned_alloc wants a multiple of the alignment; an empty array still gets an address.
  const size_t room = (array.bytes / kAlignment + 1) * kAlignment;
  array.data.reset(std::aligned_alloc(kAlignment, room));
  if (array.data == nullptr) Refuse("there is not enough memory for it");
  if (std::fseek(file, static_cast<long>(header.data_offset), SEEK_SET) != 0 ||
      std::fread(array.data.get(), 1, array.bytes, file) != array.bytes) {
    Refuse("it cannot be read to its end");
  }
  return array;
}

}  // namespace

std::string NpyDescription(DLDataType dtype) {
  for (const Description& known : kDescriptions) {
    if (known.dtype.code == dtype.code && known.dtype.bits == dtype.bits && known.dtype.lanes == dtype.lanes) {
      return known.text;
    }
  }
  return "";
}

size_t ByteSize(DLDataType dtype, const std::vector<int64_t>& shape) {
  // Sizes are multiplied without the zeros, so that a huge size beside a zero is refused like any other.
  uint64_t bytes = (dtype.bits + 7u) / 8u;
  bool empty = false;
  for (const int64_t size : shape) {
    if (size < 0) Refuse("a size in its shape is negative");
    empty = empty || size == 0;
    if (size > 0 && bytes > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) / static_cast<uint64_t>(size)) {
      Refuse("its shape is too large");
    }
    if (size > 0) bytes *= static_cast<uint64_t>(size);
  }
  return empty ? 0 : static_cast<size_t>(bytes);
}

NpyHeader ParseNpyHeader(const unsigned char* bytes, size_t size, uint64_t file_size) {
  size_t offset = 0;
  const size_t length = HeaderLength(bytes, size, &offset);
  HeaderText text(reinterpret_cast<const char*>(bytes) + offset, length);
  NpyHeader header;
  bool has_dtype = false, has_order = false, has_shape = false, fortran_order = false;
  text.Expect('{');
  while (!text.TakeIf('}')) {
    const std::string key = text.String();
    bool* seen = key == "descr"           ? &has_dtype
                 : key == "fortran_order" ? &has_order
                 : key == "shape"         ? &has_shape
                                          : nullptr;
    if (seen == nullptr || *seen) Refuse("its header has an unknown or repeated key '" + key + "'");
    *seen = true;
    text.Expect(':');
    if (seen == &has_dtype) header.dtype = DTypeOf(text.String());
    if (seen == &has_order) fortran_order = text.Boolean();
    if (seen == &has_shape) header.shape = text.Shape();
    if (!text.TakeIf(',')) {
      text.Expect('}');
      break;
    }
  }
  text.ExpectEnd();
  if (!has_dtype || !has_order || !has_shape) Refuse("its header lacks descr, fortran_order or shape");
  if (fortran_order && header.shape.size() > 1) Refuse("it is in Fortran order; save it with numpy.ascontiguousarray");
  header.data_offset = offset + length;
  header.data_bytes = ByteSize(header.dtype, header.shape);
  if (file_size < header.data_offset || file_size - header.data_offset != header.data_bytes) {
    Refuse("it has " + std::to_string(file_size < header.data_offset ? 0 : file_size - header.data_offset) +
           " bytes of elements where its shape asks for " + std::to_string(header.data_bytes));
  }
  return header;
}

NpyArray ReadNpy(const std::string& path) {
  const File file = OpenFile(path, "rb");
  if (file == nullptr) throw Failure(ExitCode::kInput, "cannot open the input " + path + ": " + std::strerror(errno));
  try {
    return ReadOpenFile(file.get());
  } catch (const Failure& failure) {
    throw Failure(ExitCode::kInput, "cannot read the input " + path + ": " + failure.what());
  }
}

void WriteNpy(const std::string& path, DLDataType dtype, const std::vector<int64_t>& shape, const void* data) {
  const std::string description = NpyDescription(dtype);
  if (description.empty()) {
    throw Failure(ExitCode::kOutput, "cannot write " + path + ": .npy has no name for the output's data type (code " +
                                         std::to_string(dtype.code) + ", " + std::to_string(dtype.bits) + " bits)");
  }
  std::string header = "{'descr': '" + description + "', 'fortran_order': False, 'shape': (";
  for (const int64_t size : shape) header += std::to_string(size) + (shape.size() == 1 ? "," : ", ");
  header += "), }";
  // The elements start at a multiple of 64 bytes; the header ends in a new line.
  const size_t fixed = kMagicSize + 4;
  header.append(63 - (fixed + header.size()) % 64, ' ');
  header += '\n';
  const unsigned char start[] = {1, 0, static_cast<unsigned char>(header.size() & 0xff),
                                 static_cast<unsigned char>(header.size() >> 8)};
  const File file = OpenFile(path, "wb");
  const size_t bytes = ByteSize(dtype, shape);
  const bool written = file != nullptr && std::fwrite(kMagic, 1, kMagicSize, file.get()) == kMagicSize &&
                       std::fwrite(start, 1, sizeof(start), file.get()) == sizeof(start) &&
                       std::fwrite(header.data(), 1, header.size(), file.get()) == header.size() &&
                       std::fwrite(data, 1, bytes, file.get()) == bytes && std::fflush(file.get()) == 0;
  if (!written) throw Failure(ExitCode::kOutput, "cannot write " + path + ": " + std::strerror(errno));
}

}  // namespace tvmbuild
