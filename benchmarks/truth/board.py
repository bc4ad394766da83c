"""A board as ncnn sees it, emulated: an aarch64 Python, ncnn's wheel, its nets, what /proc and /sys say of the cores.

Nothing of that is in the repository: the wheel and the nets come by pinned hash (PyPI's, Git's), Python from Debian by
apt, which checks its signatures.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from devtools import zoo
from tvmbuild.codegen.toolchain import find_toolchain, run_compiler
from tvmbuild.device.emulator import find_emulator
from tvmbuild.predict.plugin import plugin_for
from tvmbuild.predict.predictor import cache_arguments
from tvmbuild.support.errors import DeviceError, FetchError
from tvmbuild.target.cores import ARM
from tvmbuild.target.target import Target, predicted_core

HERE = Path(__file__).resolve().parent
#: The wheels of ncnn for aarch64, by version.
WHEELS = {
    "1.0.20230517": "2d84accf8ccdaef1412b77e92af6b41ee0591413143b0e66b7559b73e85e6593",
    "1.0.20240102": "b88c5b982efc26b5a85d0f1fa56f7ade6f3b001ba37f3f928dd10e1eb0c231f5",
}
_PLATFORM = ("--platform=manylinux2014_aarch64", "--python-version=3.11", "--implementation=cp", "--abi=cp311")
#: ncnn's repository, and the commit whose nets are run: they are the same at the commits of all figures.
REPOSITORY = "https://github.com/Tencent/ncnn"
_COMMIT = "cc37c10997e836e5ac4facb08c6a59d99ec09155"
#: Debian 12's packages that make a Python 3.11 with what ncnn and guest.py load.
_PACKAGES = (
    "libc6", "libgcc-s1", "libstdc++6", "libexpat1", "libffi8", "zlib1g",
    "libpython3.11-minimal", "libpython3.11-stdlib", "python3.11-minimal",
)  # fmt: skip
_PYTHON = Path("usr/bin/python3.11")
_KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
_SOURCE = f"deb [arch=arm64 signed-by={_KEYS}] http://deb.debian.org/debian bookworm main\n"
_TIMEOUT = 1800.0
#: Input sizes of benchncnn, by net. Left out are VGG-16 and the vision transformer, which take ten times as long.
NETS = {
    **dict.fromkeys(("squeezenet", "squeezenet_int8", "alexnet"), 227),
    **dict.fromkeys(
        (
            "mobilenet", "mobilenet_int8", "mobilenet_v2", "mobilenet_v3", "shufflenet", "shufflenet_v2", "mnasnet",
            "proxylessnasnet", "efficientnet_b0", "efficientnetv2_b0", "regnety_400m", "googlenet", "googlenet_int8",
            "resnet18", "resnet18_int8", "resnet50", "resnet50_int8",
        ),
        224,
    ),
    "blazeface": 128,
    **dict.fromkeys(("squeezenet_ssd", "squeezenet_ssd_int8", "mobilenet_ssd", "mobilenet_ssd_int8"), 300),
    **dict.fromkeys(("nanodet_m", "yolo-fastest-1.1"), 320),
    **dict.fromkeys(("mobilenetv2_yolov3", "yolo-fastestv2", "FastestDet"), 352),
    **dict.fromkeys(("mobilenet_yolo", "yolov4-tiny"), 416),
}  # fmt: skip


@dataclass(frozen=True)
class EmulatedNcnn:
    """ncnn, ready to run on an emulated core.

    Attributes:
        target: the board.
        root: what the emulated program sees as /.
        extension: ncnn's extension module.
        nets: folder with the nets.
    """

    target: Target
    root: Path
    extension: Path
    nets: Path

    def profile(self, net: str, threads: int, output: Path) -> None:
        """Count what one inference executes.

        Args:
            net: one of ``NETS``.
            threads: threads that ncnn uses; they run one after the other.
            output: receives the counts, as ``tvmbuild.predict.profile`` reads them.

        Raises:
            DeviceError: the run failed.
        """
        program = find_emulator().program
        caches = cache_arguments(self.target, predicted_core(self.target))
        arguments = [str(plugin_for(program)), f"out={output}", *caches]
        command = [program, "-cpu", self.target.qemu_cpu, "-L", str(self.root)]
        command += ["-plugin", ",".join(text.replace(",", ",,") for text in arguments)]
        command += [str(self.root / _PYTHON), "-S", "-E", "-B", str(HERE / "guest.py")]
        command += [str(self.extension), str(self.nets / f"{net}.param"), str(NETS[net]), str(threads)]
        failure = f"ncnn's {net} on {self.target.name}, {threads} threads"
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, env={}, check=False)
        except (OSError, subprocess.SubprocessError) as error:
            raise DeviceError(f"{failure} could not be run: {error}.") from error
        if done.returncode:
            said = " ".join(done.stderr.split())[-500:]
            raise DeviceError(f"{failure} failed: {said}", "Delete build/truth and try again.")


def prepare(target: Target, version: str, folder: Path, *, python: Path | None, repository: str) -> EmulatedNcnn:
    """Fetch and build what is not there yet.

    Args:
        target: the board.
        version: of ncnn, one of ``WHEELS``.
        folder: receives all, and keeps it for the next time.
        python: root of an aarch64 Python 3.11 (with usr/bin/python3.11); fetched from Debian if None.
        repository: where Git finds ncnn's nets: an address or a local copy.

    Raises:
        FetchError: something cannot be fetched.
        ToolchainError, CompileError: the emulator or a compiler is missing or failed.
    """
    files = python or _python(folder / "python")
    if not (files / _PYTHON).exists():
        raise FetchError(f"{files} has no {_PYTHON}.", "Name the root of an aarch64 Python 3.11.")
    return EmulatedNcnn(
        target,
        _root(target, files, folder / f"root-{target.name}"),
        _ncnn(version, target, folder / f"ncnn-{version}"),
        _nets(repository, folder / "nets"),
    )


def _run(command: Sequence[str], what: str, hint: str, cwd: Path | None = None) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, cwd=cwd, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        raise FetchError(f"{what} failed: {error}.", hint) from error
    if done.returncode:
        raise FetchError(f"{what} failed: {' '.join(done.stderr.split())[-500:]}", hint)


def _python(root: Path) -> Path:
    """Unpack an aarch64 Python from Debian's packages, with an apt that knows nothing of this machine's packages."""
    if (root / _PYTHON).exists():
        return root
    apt = root.with_name("apt")
    for name in ("lists/partial", "cache/archives/partial"):
        (apt / name).mkdir(parents=True, exist_ok=True)
    (apt / "sources.list").write_text(_SOURCE, encoding="utf-8")
    (apt / "status").touch()
    settings = {
        "APT::Architecture": "arm64", "APT::Architectures": "arm64", "Dir::State": apt, "Dir::Cache": apt / "cache",
        "Dir::State::Lists": apt / "lists", "Dir::State::status": apt / "status",
        "Dir::Etc::SourceList": apt / "sources.list", "Dir::Etc::SourceParts": "-",
    }  # fmt: skip
    options = [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]
    hint = (
        "Needs Debian's apt and keyring (debian-archive-keyring). Elsewhere name an aarch64 Python 3.11 with its "
        "libraries (libc, libstdc++, libgcc): --python ROOT."
    )
    _run(["apt-get", *options, "update"], "Asking Debian for its packages", hint)
    _run(["apt-get", *options, "download", *_PACKAGES], "Downloading an aarch64 Python", hint, cwd=apt)
    partial = root.with_name("python.partial")
    shutil.rmtree(partial, ignore_errors=True)
    for package in sorted(apt.glob("*.deb")):
        _run(["dpkg-deb", "-x", str(package), str(partial)], f"Unpacking {package.name}", hint)
    partial.replace(root)
    return root


def _nets(repository: str, folder: Path) -> Path:
    """Take the nets out of ncnn's repository; the commit is their hash."""
    nets = folder / "benchmark"
    if all((nets / f"{name}.param").is_file() for name in NETS):
        return nets
    shutil.rmtree(folder, ignore_errors=True)
    hint = f"Check the network, or name a local copy of {REPOSITORY} with --ncnn."
    clone = folder.with_name("nets.git")
    if not clone.is_dir():
        partial = folder.with_name("nets.git.partial")
        shutil.rmtree(partial, ignore_errors=True)
        _run(["git", "clone", "--quiet", "--bare", "--filter=blob:none", repository, str(partial)], "Git's clone", hint)
        partial.replace(clone)
    folder.mkdir(parents=True)
    command = ["git", "-C", str(clone), f"--work-tree={folder}", "checkout", "--quiet", _COMMIT, "--", "benchmark"]
    _run(command, f"Taking the nets of {_COMMIT[:9]}", hint)
    return nets


def _ncnn(version: str, target: Target, folder: Path) -> Path:
    """Unpack ncnn's extension, and put the stand-in for libgomp where it looks for its own copy."""
    found = sorted(folder.glob("ncnn/*.so"))
    if found:
        return found[0]
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    zoo.download([zoo.Wheel(f"ncnn=={version}", WHEELS[version])], partial, _PLATFORM)
    with zipfile.ZipFile(next(partial.glob("*.whl"))) as wheel:
        names = wheel.namelist()
        extension = next(name for name in names if re.fullmatch(r"ncnn/ncnn\.[\w-]+\.so", name))
        gomp = next(name for name in names if re.fullmatch(r"ncnn\.libs/libgomp-[\w.-]+", name))
        wheel.extract(extension, partial)
    (partial / gomp).parent.mkdir()
    options = ["-O2", "-shared", "-fPIC", f"-Wl,--version-script={HERE / 'gomp.map'}", f"-Wl,-soname,{Path(gomp).name}"]
    command = [*find_toolchain(target).cxx, *options, "-x", "c", str(HERE / "gomp.c"), "-o", str(partial / gomp)]
    run_compiler(command, "the stand-in for libgomp")
    partial.replace(folder)
    return folder / extension


def _root(target: Target, files: Path, root: Path) -> Path:
    """Make what the emulated program sees as /: Python's files, and what Linux says of the board's cores."""
    root.mkdir(parents=True, exist_ok=True)
    for name in ("usr", "lib"):
        link, there = root / name, files.resolve() / name
        if not link.is_symlink() or link.readlink() != there:
            link.unlink(missing_ok=True)
            link.symlink_to(there)
    for name, text in core_files(target).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
    return root


def core_files(target: Target) -> dict[str, str]:
    """Return the files by which ncnn learns of cores and caches.

    It sizes its tiles by a core's share of the second level cache.
    """
    core = predicted_core(target)
    everyone = (1 << target.cores) - 1
    features = "fp asimd evtstrm crc32 cpuid"
    if core.extensions:
        features += " aes pmull sha1 sha2 atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp"
    info = [
        f"processor\t: {cpu}\nFeatures\t: {features}\nCPU implementer\t: 0x{ARM:02x}\nCPU architecture: 8\n"
        f"CPU variant\t: 0x0\nCPU part\t: 0x{core.part:03x}\nCPU revision\t: 1\n"
        for cpu in range(target.cores)
    ]
    caches = [(1, "Data", target.l1d_kib, False), (2, "Unified", target.l2_kib, core.l2_is_shared)]
    if target.l3_kib:
        caches.append((3, "Unified", target.l3_kib, True))
    top = "sys/devices/system/cpu"
    files = {"proc/cpuinfo": "\n".join(info)}
    files |= {f"{top}/{name}": f"0-{target.cores - 1}" for name in ("online", "possible", "present")}
    for cpu in range(target.cores):
        own = f"{top}/cpu{cpu}"
        files[f"{own}/cpufreq/cpuinfo_max_freq"] = str(1000 * target.max_mhz)
        files[f"{own}/topology/thread_siblings"] = f"{1 << cpu:x}"
        files[f"{own}/topology/thread_siblings_list"] = files[f"{own}/topology/core_cpus_list"] = str(cpu)
        for index, (level, kind, kib, shared) in enumerate(caches):
            cache = f"{own}/cache/index{index}"
            files |= {f"{cache}/level": str(level), f"{cache}/type": kind, f"{cache}/size": f"{kib}K"}
            files[f"{cache}/shared_cpu_map"] = f"{everyone if shared else 1 << cpu:x}"
    return files
