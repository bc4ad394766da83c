"""Whether a key signed a release or a bundle, and every file in it is the one that was signed."""

from __future__ import annotations

from pathlib import Path

from tvmbuild.artifact.checksums import SIGNATURE_NAME, SUMS_NAME, check_sums
from tvmbuild.artifact.open import BUNDLE_ENDING, unpacked_bundle
from tvmbuild.releases.signing import check_signature
from tvmbuild.support.paths import is_dir, is_file


def check_signed(path: Path, public_key: Path) -> int:
    """Check the signature of a bundle (packed or unpacked), of a release's folder, or of the one that a file lies in.

    Returns:
        Number of files whose checksums were signed.

    Raises:
        OptionError: the key cannot be read.
        ArtifactError: there is no signature, it is not of this key, or files differ from what was signed.
    """
    if path.name.endswith(BUNDLE_ENDING) and not is_file(path.parent / SIGNATURE_NAME):
        folder = unpacked_bundle(path)
    else:
        folder = path if is_dir(path) else path.parent
    check_signature(folder / SUMS_NAME, folder / SIGNATURE_NAME, public_key)
    return len(check_sums(folder))
