"""release(): the order of its steps and nothing else."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvmbuild.artifact.build_store import BuildStore
from tvmbuild.artifact.checksums import SIGNATURE_NAME, SUMS_NAME, check_sums
from tvmbuild.artifact.digest import sha256_of
from tvmbuild.artifact.remote import Remote
from tvmbuild.releases.cell import CellResult, check_cell, make_cell
from tvmbuild.releases.junit import JUNIT_NAME, junit_text
from tvmbuild.releases.notes import NOTES_NAME, REPORT_NAME, notes, report
from tvmbuild.releases.packed import Packed, pack
from tvmbuild.releases.plan import Plan
from tvmbuild.releases.sbom import SBOM_NAME, sbom_text
from tvmbuild.releases.signing import Signer
from tvmbuild.support import progress
from tvmbuild.support.atomic.staging import check_writable, clean, staged_folder
from tvmbuild.support.errors import ArtifactError, OptionError
from tvmbuild.support.paths import is_dir, is_file, missing


@dataclass(frozen=True)
class Released:
    """What a release wrote: its folder, its cells, its bundles, and its report."""

    folder: Path
    made: tuple[CellResult, ...]
    packed: tuple[Packed, ...]
    report: dict[str, Any]


def release(
    plan: Plan,
    output: Path,
    *,
    signer: Signer | None = None,
    epoch: int = 0,
    last: dict[str, Any] | None = None,
    remote: Remote | None = None,
) -> Released:
    """Make every cell and bundle of a plan and publish them together into ``<output>/<version>``.

    The folder takes its place as a whole when all is built and verified; until then the one that was there stays.

    Args:
        plan: what to make.
        output: folder of releases.
        signer: signs SHA256SUMS, of the release and of each bundle; None leaves them unsigned.
        epoch: time of the files in archives, in seconds since 1970.
        last: report of the last release, to compare with.
        remote: where cells that are not in the cache may be.

    Raises:
        OptionError: what is at that place is no release.
        TvmbuildError: any of the classes in ``errors.py``, by the step that failed.
    """
    folder = output / plan.version
    # What a killed run left.
    clean(output)
    require_release(folder)
    check_writable(output)
    with progress.stage("check what is asked for"):
        for cell in plan.cells:
            check_cell(cell)
    with BuildStore(remote) as store:
        made, packed = _make(plan, store, signer, epoch)
        content = report(plan.version, packed, last)
        _publish(folder, made, packed, content, signer, epoch)
    return Released(folder, tuple(made), tuple(packed), content)


def require_release(folder: Path) -> None:
    """Check that what a release will replace is one, or empty, or not there.

    Raises:
        OptionError: it is something else.
    """
    there = not missing(folder)
    if there and not (is_dir(folder) and (is_file(folder / SUMS_NAME) or not any(folder.iterdir()))):
        raise OptionError(
            f"{folder} is no release (it has no {SUMS_NAME}) and would be replaced.",
            "Move it away, or choose another -o or --version.",
        )


def _summary(made: Sequence[CellResult]) -> str:
    fetched = sum(1 for one in made if one.entry.fetched)
    built = f"{len(made)} artifacts, {sum(1 for one in made if one.entry.why)} of them built now"
    return f"{built}, {fetched} from the remote cache" if fetched else built


def _publish(
    folder: Path,
    made: Sequence[CellResult],
    packed: Sequence[Packed],
    content: dict[str, Any],
    signer: Signer | None,
    epoch: int,
) -> None:
    copied, digests = _collected([*_named(made), *((one.archive.name, one.archive) for one in packed)])
    version = folder.name
    written = {
        SBOM_NAME: sbom_text(version, made, digests, epoch),
        NOTES_NAME: notes(content),
        REPORT_NAME: json.dumps(content, indent=1) + "\n",
        JUNIT_NAME: junit_text((one.manifest.name, one.verification) for one in made),
    }
    digests |= {name: hashlib.sha256(text.encode()).hexdigest() for name, text in written.items()}
    sums = "".join(f"{digests[name]}  {name}\n" for name in sorted(digests)).encode()
    signature = signer.sign(sums) if signer else None
    if _is_published(folder, sums, signature):
        return
    with staged_folder(folder) as aside:
        for name, path in copied.items():
            shutil.copyfile(path, aside / name)
            (aside / name).chmod(0o755 if path.suffix == ".so" else 0o644)
        for name, text in written.items():
            (aside / name).write_text(text, encoding="utf-8")
        (aside / SUMS_NAME).write_bytes(sums)
        if signature is not None:
            (aside / SIGNATURE_NAME).write_bytes(signature)


def _make(plan: Plan, store: BuildStore, signer: Signer | None, epoch: int) -> tuple[list[CellResult], list[Packed]]:
    made: dict[str, CellResult] = {}
    packed = []
    with progress.stage("release", total=len(plan.cells) + len(plan.bundles)) as step:
        for cell in plan.cells:
            made[cell.options.name] = make_cell(cell, store)
            step.advance(detail=_summary(list(made.values())))
        for bundle in plan.bundles:
            members = [made[cell.options.name] for cell in bundle.cells]
            packed.append(pack(bundle.name, members, store, plan.version, signer, epoch))
            step.advance()
    return list(made.values()), packed


def _named(made: Sequence[CellResult]) -> list[tuple[str, Path]]:
    """Return the artifacts' files with the names under which they are published."""
    files = [(one.manifest.name, path) for one in made for path in one.files]
    quantized: dict[str, set[str]] = {}
    for _, path in files:
        if path.suffix == ".onnx":
            quantized.setdefault(path.name, set()).add(sha256_of(path))
    # The int8 model is the same for all boards, unless layers stay in float on some.
    return [(f"{name}.onnx" if len(quantized.get(path.name, ())) > 1 else path.name, path) for name, path in files]


def _collected(files: Sequence[tuple[str, Path]]) -> tuple[dict[str, Path], dict[str, str]]:
    """Return files by name, and their checksums."""
    copied: dict[str, Path] = {}
    digests: dict[str, str] = {}
    for name, path in files:
        digest = sha256_of(path)
        if digests.setdefault(name, digest) != digest:
            raise OptionError(f"Two different files of the release are called {name}.", "Rename a model's file.")
        copied[name] = path
    return copied, digests


def _is_published(folder: Path, sums: bytes, signature: bytes | None) -> bool:
    """Whether a folder holds just this release already, every file of it whole."""
    try:
        same = (folder / SUMS_NAME).read_bytes() == sums
        signed = (folder / SIGNATURE_NAME).read_bytes() if (folder / SIGNATURE_NAME).exists() else None
        check_sums(folder)
    except (OSError, ArtifactError):
        return False
    return same and signed == signature
