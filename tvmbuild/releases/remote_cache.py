"""The remote cache of a release: from its options to whom to trust."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tvmbuild.artifact.remote import Remote, RemoteSettings
from tvmbuild.releases.signing import load_signer, load_verifier
from tvmbuild.support.errors import OptionError
from tvmbuild.support.options import CacheOptions
from tvmbuild.support.resolve import PROJECT_FILE, Resolved, read_project_file, resolve


def open_remote(flags: Mapping[str, Any], folder: Path, warn: Callable[[str], None]) -> Remote | None:
    """Return the remote cache that flags, environment and the project file's [cache] table name, or None.

    Args:
        flags: values from the command line; None means not given.
        folder: the project's; paths in its file are relative to it.
        warn: told what goes wrong with the remote later.

    Raises:
        OptionError: an option is wrong, a key cannot be read, a driver is missing, or entries would be read unchecked
            without that being asked for.
    """
    resolved = resolve(CacheOptions, flags, project=read_project_file("cache", folder))
    options = resolved.options
    if not options.remote_cache:
        return None
    if not (math.isfinite(options.cache_timeout) and options.cache_timeout > 0):
        raise OptionError(f"cache_timeout must be some seconds, not {options.cache_timeout:g}.", "10 is the default.")
    keys = [_path(key, resolved, "cache_trusted_key", folder) for key in options.cache_trusted_key]
    signer = load_signer(_path(options.cache_key, resolved, "cache_key", folder)) if options.cache_key else None
    _check_trust(options, trusted=bool(keys or signer))
    url = options.remote_cache
    if "://" not in url and "::" not in url:
        url = str(_path(url, resolved, "remote_cache", folder).absolute())
    verifiers = [load_verifier(key) for key in keys] + ([signer.verifier()] if signer else [])

    def trusts(content: bytes, signature: bytes) -> bool:
        return any(verifier.accepts(content, signature) for verifier in verifiers)

    sign = signer.sign if signer else None
    settings = RemoteSettings(url, None if options.cache_unsigned else trusts, sign, options.cache_timeout)
    return Remote(settings, warn)


def _check_trust(options: CacheOptions, trusted: bool) -> None:
    if options.cache_unsigned and trusted:
        raise OptionError(
            "cache_unsigned takes entries of anyone, which makes keys of the cache pointless.",
            "Leave out one of the two.",
        )
    if not options.cache_unsigned and not trusted:
        raise OptionError(
            f"Who may write to the remote cache {options.remote_cache} decides what you release: no key to check its "
            "entries with is given.",
            "Name a public key with --cache-trusted-key (make one with 'tvmbuild keys new'), or take the entries of "
            "anyone who can write there with --cache-unsigned.",
        )


def _path(text: str, resolved: Resolved[CacheOptions], option: str, folder: Path) -> Path:
    """Return a path; those in the project file are relative to its folder."""
    return folder / text if resolved.origins[option] == PROJECT_FILE else Path(text)
