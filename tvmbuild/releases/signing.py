"""Ed25519 signatures of SHA256SUMS (RFC 8032), by the ``cryptography`` package.

The keys are PEM files, as ``openssl genpkey -algorithm ed25519`` writes them too, so that ``openssl pkeyutl`` and the
board's own libcrypto read them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from tvmbuild.artifact.checksums import read_plain_file
from tvmbuild.support.atomic.aside import folder_locked
from tvmbuild.support.atomic.staging import staged
from tvmbuild.support.errors import ArtifactError, OptionError, OutputError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PRIVATE_NAME, PUBLIC_NAME = "release.key", "release.pub"


class Signer:
    """Signs with one private key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    def sign(self, content: bytes) -> bytes:
        """Return the signature, 64 bytes; the same content and key give the same."""
        return self._key.sign(content)

    def public_digest(self) -> str:
        """Return the public key in hexadecimal."""
        return self._key.public_key().public_bytes_raw().hex()

    def verifier(self) -> Verifier:
        """Return the checker of this key's signatures."""
        return Verifier(self._key.public_key())


class Verifier:
    """Checks signatures with one public key."""

    def __init__(self, key: Ed25519PublicKey) -> None:
        self._key = key

    def accepts(self, content: bytes, signature: bytes) -> bool:
        """Whether the key signed this content."""
        from cryptography.exceptions import InvalidSignature

        try:
            self._key.verify(signature, content)
        except InvalidSignature:
            return False
        return True


def new_keys(folder: Path) -> tuple[Path, Path]:
    """Write a new private and public key, ``release.key`` (readable by its owner alone) and ``release.pub``.

    Raises:
        OptionError: a key of that name is there: losing one is worse than a second command.
        OutputError: the folder cannot be written; then there is neither key.
    """
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    public = key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    paths = folder / PRIVATE_NAME, folder / PUBLIC_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The keys cannot be written to {folder}: {error.strerror}.", "Choose another -o.") from error
    # Of two commands that make keys in one folder the second finds those of the first.
    with folder_locked(folder), staged(folder, PUBLIC_NAME) as aside:
        _require_free(*paths)
        for path, content, mode in zip(paths, (private, public), (0o600, 0o644), strict=True):
            with os.fdopen(os.open(aside / path.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
                stream.write(content)
    return paths


def _require_free(private: Path, public: Path) -> None:
    if private.exists() and not public.exists():
        raise OptionError(
            f"{private} is there already, without {public.name}.",
            f"Its public key: openssl pkey -in {private} -pubout -out {public}; for a new pair move it away.",
        )
    for path in (private, public):
        if path.exists():
            raise OptionError(f"{path} is there already.", "Move it away, or give another folder with -o.")


def load_signer(path: Path) -> Signer:
    """Read a private key.

    Raises:
        OptionError: the file cannot be read, or is no Ed25519 private key without password.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise OptionError(f"The private key {path} cannot be read: {error}.", _NEW) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise OptionError(f"{path} is no Ed25519 key.", _NEW)
    return Signer(key)


_NEW = "Make one with 'tvmbuild keys new'."


def load_verifier(public_key: Path) -> Verifier:
    """Read a public key.

    Raises:
        OptionError: the file cannot be read, or is no Ed25519 public key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(public_key.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise OptionError(f"The public key {public_key} cannot be read: {error}.", _NEW) from error
    if not isinstance(key, Ed25519PublicKey):
        raise OptionError(f"{public_key} is no Ed25519 key.", _NEW)
    return Verifier(key)


def check_signature(signed: Path, signature: Path, public_key: Path) -> None:
    """Check the signature of a file.

    Raises:
        OptionError: the public key cannot be read.
        ArtifactError: there is no signature, or it is not of this key and these bytes.
    """
    verifier = load_verifier(public_key)
    try:
        accepted = verifier.accepts(read_plain_file(signed), read_plain_file(signature))
    except OSError as error:
        raise ArtifactError(f"{signed} is not signed: {error}.", "Get it from who signs releases.") from error
    if not accepted:
        raise ArtifactError(
            f"{signature} is not a signature of {signed.name} by the key in {public_key}.",
            "Do not use these files: get them again from who signs releases.",
        )
