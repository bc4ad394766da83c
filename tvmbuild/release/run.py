"""release(): the order of its steps and nothing else."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvmbuild import progress
from tvmbuild.artifact.checksums import SIGNATURE_NAME, SUMS_NAME, sums_text
from tvmbuild.artifact.staging import staged_folder
from tvmbuild.release.cell import Made, make_cell
from tvmbuild.release.junit import JUNIT_NAME, junit_text
from tvmbuild.release.notes import NOTES_NAME, REPORT_NAME, notes, report
from tvmbuild.release.plan import Plan
from tvmbuild.release.sbom import SBOM_NAME, sbom_text
from tvmbuild.release.signing import Signer


@dataclass(frozen=True)
class Released:
    """What a release wrote: its folder, its cells, and its report."""

    folder: Path
    made: tuple[Made, ...]
    report: dict[str, Any]


def release(
    plan: Plan, output: Path, *, signer: Signer | None = None, epoch: int = 0, last: dict[str, Any] | None = None
) -> Released:
    """Make every cell of a plan and publish them together into ``<output>/<version>``.

    The folder takes its place as a whole when all is built and verified; until then the one that was there stays.

    Args:
        plan: what to make.
        output: folder of releases.
        signer: signs SHA256SUMS, of the release and of each bundle; None leaves them unsigned.
        epoch: time of the files in archives, in seconds since 1970.
        last: report of the last release, to compare with.

    Raises:
        TvmbuildError: any of the classes in ``errors.py``, by the step that failed.
    """
    made = []
    with progress.stage("release", total=len(plan.cells)) as step:
        for cell in plan.cells:
            made.append(make_cell(cell, plan.version, signer, epoch))
            step.advance(detail=f"{len(made)} artifacts, {sum(1 for one in made if one.why)} of them built now")
    folder = output / plan.version
    content = report(plan.version, made, last)
    with staged_folder(folder) as aside:
        for one in made:
            for path in one.files:
                shutil.copyfile(path, aside / path.name)
                if path.suffix == ".so":
                    (aside / path.name).chmod(0o755)
        sbom = sbom_text(plan.version, made, aside.iterdir(), epoch)
        (aside / SBOM_NAME).write_text(sbom, encoding="utf-8")
        (aside / NOTES_NAME).write_text(notes(content), encoding="utf-8")
        (aside / REPORT_NAME).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        (aside / JUNIT_NAME).write_text(
            junit_text((one.manifest.name, one.verification) for one in made), encoding="utf-8"
        )
        text = sums_text({path.name: path for path in aside.iterdir()})
        (aside / SUMS_NAME).write_text(text, encoding="utf-8")
        if signer is not None:
            (aside / SIGNATURE_NAME).write_bytes(signer.sign(text.encode()))
    return Released(folder, tuple(made), content)
