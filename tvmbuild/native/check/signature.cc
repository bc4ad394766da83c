#include "check/signature.h"

#include <memory>

#include "check/refusal.h"
#include "check/shared_library.h"
#include "check/text_file.h"

namespace tvmbuild {
namespace {

constexpr size_t kSignatureBytes = 64;
constexpr int kEd25519 = 1087;  // NID_ED25519 of OpenSSL's obj_mac.h

// The functions of libcrypto that are used, as openssl/evp.h and openssl/pem.h declare them with their types left open.
struct Crypto {
  explicit Crypto(const SharedLibrary& library)
      : new_buffer(library.Find<void*(const void*, int)>("BIO_new_mem_buf")),
        free_buffer(library.Find<int(void*)>("BIO_free")),
        read_key(library.Find<void*(void*, void**, void*, void*)>("PEM_read_bio_PUBKEY")),
        free_key(library.Find<void(void*)>("EVP_PKEY_free")),
        // OpenSSL 3 gave the function a new name.
        key_kind(library.Find<int(const void*)>("EVP_PKEY_get_id")),
        new_context(library.Find<void*()>("EVP_MD_CTX_new")),
        free_context(library.Find<void(void*)>("EVP_MD_CTX_free")),
        start(library.Find<int(void*, void**, const void*, void*, void*)>("EVP_DigestVerifyInit")),
        verify(
            library.Find<int(void*, const unsigned char*, size_t, const unsigned char*, size_t)>("EVP_DigestVerify")) {
    if (key_kind == nullptr) key_kind = library.Find<int(const void*)>("EVP_PKEY_id");
  }

  bool is_whole() const {
    return new_buffer && free_buffer && read_key && free_key && key_kind && new_context && free_context && start &&
           verify;
  }

  void* (*new_buffer)(const void*, int);
  int (*free_buffer)(void*);
  void* (*read_key)(void*, void**, void*, void*);
  void (*free_key)(void*);
  int (*key_kind)(const void*);
  void* (*new_context)();
  void (*free_context)(void*);
  int (*start)(void*, void**, const void*, void*, void*);
  int (*verify)(void*, const unsigned char*, size_t, const unsigned char*, size_t);
};

std::unique_ptr<SharedLibrary> OpenLibcrypto() {
  for (const char* name : {"libcrypto.so.3", "libcrypto.so.1.1"}) {
    auto library = std::make_unique<SharedLibrary>(name);
    if (library->is_open()) return library;
  }
  throw Refusal("the signature cannot be checked: this system has no libcrypto (install openssl)");
}

bool IsValid(const Crypto& crypto, void* key, const std::string& signed_text, const std::string& signature) {
  const std::unique_ptr<void, void (*)(void*)> context(crypto.new_context(), crypto.free_context);
  return context != nullptr && crypto.start(context.get(), nullptr, nullptr, nullptr, key) == 1 &&
         crypto.verify(context.get(), reinterpret_cast<const unsigned char*>(signature.data()), signature.size(),
                       reinterpret_cast<const unsigned char*>(signed_text.data()), signed_text.size()) == 1;
}

}  // namespace

void CheckSignature(const std::string& folder, const std::string& key_path) {
  const std::string sums = ReadTextFile(folder + "/SHA256SUMS");
  const std::string signature = ReadTextFile(folder + "/SHA256SUMS.sig");
  const std::string pem = ReadTextFile(key_path, Links::kFollowed);
  const std::unique_ptr<SharedLibrary> library = OpenLibcrypto();
  const Crypto crypto(*library);
  if (!crypto.is_whole()) throw Refusal("the signature cannot be checked: this system's libcrypto is too old");
  void* const buffer = crypto.new_buffer(pem.data(), static_cast<int>(pem.size()));
  void* const read = buffer == nullptr ? nullptr : crypto.read_key(buffer, nullptr, nullptr, nullptr);
  if (buffer != nullptr) crypto.free_buffer(buffer);
  const std::unique_ptr<void, void (*)(void*)> key(read, crypto.free_key);
  if (key == nullptr || crypto.key_kind(key.get()) != kEd25519)
    throw Refusal(key_path + " is no Ed25519 public key in PEM form");
  if (signature.size() != kSignatureBytes || !IsValid(crypto, key.get(), sums, signature)) {
    throw Refusal("SHA256SUMS.sig is not a signature of SHA256SUMS by the key in " + key_path);
  }
}

}  // namespace tvmbuild
