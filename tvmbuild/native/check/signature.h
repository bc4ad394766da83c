// The Ed25519 signature of SHA256SUMS. The board's own libcrypto (OpenSSL 1.1.1 or 3) checks it: cryptography is no
// place for code of our own.
#ifndef TVMBUILD_CHECK_SIGNATURE_H_
#define TVMBUILD_CHECK_SIGNATURE_H_

#include <string>

namespace tvmbuild {

// Checks SHA256SUMS.sig in `folder` against the public key in a PEM file. Throws Refusal when there is no signature, no
// libcrypto, or the signature is not of that key and these bytes.
void CheckSignature(const std::string& folder, const std::string& key_path);

}  // namespace tvmbuild

#endif  // TVMBUILD_CHECK_SIGNATURE_H_
