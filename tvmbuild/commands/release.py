"""``tvmbuild release``: every model for every board, verified, bundled and signed, from one tvmbuild.toml."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tvmbuild.commands.console import Console, Json, Quiet, Verbose, size_text


def release(
    project: Annotated[Path, typer.Option(help="Folder with the tvmbuild.toml. [.]")] = Path(),
    version: Annotated[str | None, typer.Option("--version", help="Version. [that in tvmbuild.toml, or 0]")] = None,
    targets: Annotated[
        str, typer.Option("--targets", help="Boards, A,B,C; and one bundle a model for all of them. [tvmbuild.toml's]")
    ] = "",
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of releases. [dist]")] = Path("dist"),
    key: Annotated[
        Path | None, typer.Option(envvar="TVMBUILD_KEY", help="Private key to sign with ('tvmbuild keys new').")
    ] = None,
    against: Annotated[Path | None, typer.Option(help="release.json of the last release, to compare with.")] = None,
    remote_cache: Annotated[
        str | None, typer.Option(help="Folder or URL (s3://bucket/path) that shares built artifacts. [none]")
    ] = None,
    cache_trusted_key: Annotated[
        list[str] | None, typer.Option(help="Public key of who may write there; once a key.", metavar="FILE")
    ] = None,
    cache_key: Annotated[
        str | None, typer.Option(help="Private key to write there with; without one it is only read.", metavar="FILE")
    ] = None,
    cache_unsigned: Annotated[
        bool, typer.Option("--cache-unsigned", help="Trust everyone who can write there, and write too.")
    ] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Say of each artifact why it was built.")] = False,
    check_reproducible: Annotated[
        bool, typer.Option("--check-reproducible", help="Build twice in different conditions and compare.")
    ] = False,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Build, verify on the emulated board and bundle the models of [release] in tvmbuild.toml.

    Writes <output>/<version>: libraries, bundles, SHA256SUMS, a CycloneDX bill of materials, release notes and the
    verification as JUnit XML; all of them, or nothing. What did not change comes from the cache, or from one that
    machines share (docs/release.md; "" for none).

    \b
    Examples:
      tvmbuild release
      tvmbuild release --version 1.2.0 --key release.key --against dist/1.1.0/release.json
      tvmbuild release --targets rpi3,rpi4,rpi5
      tvmbuild release --remote-cache s3://bucket/tvmbuild --cache-trusted-key cache.pub
      tvmbuild release --remote-cache /mnt/build-cache --cache-unsigned
      tvmbuild release --check-reproducible
    """
    from tvmbuild.artifact.epoch import source_date_epoch
    from tvmbuild.releases.notes import read_report
    from tvmbuild.releases.plan import read_plan
    from tvmbuild.releases.remote_cache import open_remote
    from tvmbuild.releases.run import release as run_release
    from tvmbuild.releases.signing import load_signer

    console = Console(as_json, verbose, quiet)
    plan = read_plan(project, version, _names(targets))
    if check_reproducible:
        _check_reproducible(console, project, plan.version, targets)
        return
    signer = load_signer(key) if key else None
    last = read_report(against) if against else None
    flags = {
        "remote_cache": remote_cache,
        "cache_trusted_key": cache_trusted_key,
        "cache_key": cache_key,
        "cache_unsigned": cache_unsigned or None,
    }
    remote = open_remote(flags, project, lambda text: Console.say(f"warning: {text}"))
    with console.stages():
        released = run_release(plan, output, signer=signer, epoch=source_date_epoch(), last=last, remote=remote)
    console.result({**released.report, "folder": released.folder})
    if explain:
        entries = [(one.manifest.name, one.entry, one.taken) for one in released.made]
        for name, entry, taken in [*entries, *((one.archive.name, one.entry, False) for one in released.packed)]:
            origin = "from the remote cache" if entry.fetched else "from the cache"
            made = "as 'tvmbuild build' made it, verified" if taken else "built"
            console.text(f"{name}: {f'{made}, since {entry.why}' if entry.why else origin}")
    cells, bundles = released.report["cells"], released.report["bundles"]
    rows = [(cell["name"], size_text(cell["library_bytes"]), f"{cell['largest_difference']:.0e}") for cell in cells]
    console.table(("artifact", "library", "difference"), rows)
    packed = [(bundle["file"], ", ".join(bundle["targets"]), size_text(bundle["bytes"])) for bundle in bundles]
    console.table(("bundle", "boards", "size"), packed)
    console.text(f"wrote {released.folder}{' (signed)' if signer else ''}")


def _names(targets: str) -> list[str]:
    names = [name.strip() for name in targets.split(",")] if targets else []
    if "" in names:
        from tvmbuild.support.errors import OptionError

        raise OptionError(f"--targets '{targets}' names a board that is empty.", "Write them as rpi3,rpi4,rpi5.")
    return names


def _check_reproducible(console: Console, project: Path, version: str, targets: str) -> None:
    from tvmbuild.releases.reproducible import check_reproducible

    with console.stages():
        names = check_reproducible(project, version, targets)
    console.result({"reproducible": True, "files": names})
    console.text(f"all {len(names)} files are the same, built twice in different conditions")
