"""Bundles on the emulated board: each passes its selftest on its own core; what does not fit is refused plainly."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from bundle_grammar import bundle_conf
from test_commands_build import small_net

from tvmbuild.artifact.archive import extract_archive
from tvmbuild.artifact.checksums import SUMS_NAME, sums_text
from tvmbuild.artifact.open import open_artifact
from tvmbuild.codegen.native_programs import compiler_options, program_folders, sources
from tvmbuild.codegen.runtime_libs import runtime_libraries
from tvmbuild.codegen.toolchain import find_toolchain
from tvmbuild.commands.app import run as main
from tvmbuild.device.check_build import CHECK_NAME
from tvmbuild.device.emulator import find_emulator
from tvmbuild.pipeline import build
from tvmbuild.releases.bundle import BundleOptions, write_bundle
from tvmbuild.releases.signing import load_signer, new_keys
from tvmbuild.support.cache import cached_folder
from tvmbuild.support.errors import ArtifactError
from tvmbuild.support.options import BuildOptions
from tvmbuild.target.target import load_target

TOP = Path(__file__).parents[2]
BOARDS = ("rpi3", "rpizero2w", "rpi4", "rpi5", "generic-aarch64")
#: The aarch64 wheel of the version before ours.
OLDER_RUNTIME = (
    "apache-tvm-ffi==0.1.13 --hash=sha256:e4f2794abc60ee97cd927d6fada4122fe2ec43cfb825005ca09961e88d2fd732\n"
)
#: "Under 12 MB plus the weights": all that is not the model's.
OWN_BYTES = 12e6


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles of a small net for every target, signed, each unpacked into an empty folder."""
    folder = tmp_path_factory.mktemp("bundles")
    net = small_net(folder / "net.onnx")
    private, _ = new_keys(folder / "keys")
    for name in (*BOARDS, "host"):
        result = build(net, load_target(name), BuildOptions(shape=("input.1=1,3,12,10",), output=folder / "dist"))
        artifact = open_artifact(folder / "dist" / f"{result.manifest.name}.so")
        archive = write_bundle([artifact], BundleOptions(version="1.0", output=folder), load_signer(private))
        with tarfile.open(archive) as plain:
            plain.extractall(folder, filter="data")
    together = [open_artifact(folder / "dist" / f"net-{name}.so") for name in ("rpi3", "rpi4", "rpi5")]
    with tarfile.open(write_bundle(together, BundleOptions(version="1.0", output=folder))) as plain:
        plain.extractall(folder, filter="data")
    return folder


@pytest.fixture
def copy_of(made: Path, tmp_path: Path) -> object:
    def copy(name: str) -> Path:
        return Path(shutil.copytree(made / f"net-{name}-1.0", tmp_path / name))

    return copy


def run(bundle: Path, *arguments: str, cpu: str = "") -> tuple[int, str]:
    """Run run.sh, on an emulated core if one is named; returns exit code and all that it said."""
    emulator = find_emulator()
    prefix = f"{emulator.program} -cpu {cpu} -L {emulator.sysroot}" if cpu else ""
    done = subprocess.run(
        ["sh", str(bundle / "run.sh"), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "TVMBUILD_EMULATOR": prefix},
    )
    return done.returncode, done.stdout + done.stderr


def seal(bundle: Path) -> None:
    """Write SHA256SUMS anew, as one does who changes a bundle on purpose."""
    files = {str(path.relative_to(bundle)): path for path in bundle.rglob("*") if path.is_file()}
    for name in (SUMS_NAME, f"{SUMS_NAME}.sig"):
        del files[name]
    (bundle / SUMS_NAME).write_text(sums_text(files))


@pytest.mark.parametrize("name", BOARDS)
def test_a_bundle_passes_its_selftest_on_its_own_core(name: str, made: Path) -> None:
    code, said = run(made / f"net-{name}-1.0", "--selftest", cpu=load_target(name).qemu_cpu)
    assert code == 0, said
    assert said.splitlines()[-1] == f"selftest passed: net-{name}"


@pytest.mark.parametrize(
    ("cpu", "library"), [("cortex-a53", "rpi3"), ("cortex-a72", "rpi4"), ("cortex-a76", "rpi5"), ("cortex-a35", "rpi3")]
)
def test_a_bundle_for_several_boards_runs_the_library_for_the_core(cpu: str, library: str, made: Path) -> None:
    bundle = made / "net-rpi3+rpi4+rpi5-1.0"
    code, said = run(bundle, "--selftest", cpu=cpu)
    assert code == 0, said
    assert f"; library net-{library}\n" in said
    assert run(bundle, "--input", str(bundle / "golden" / "input_0.npy"), cpu=cpu)[0] == 0


def test_a_bundle_is_small(made: Path) -> None:
    for name in BOARDS:
        assert (made / f"net-{name}-1.0.tar.gz").stat().st_size < OWN_BYTES


def test_a_bundle_for_a_newer_core_is_refused_in_plain_words(made: Path) -> None:
    for arguments in (("--selftest",), ("--input", "golden/input_0.npy")):
        code, said = run(made / "net-rpi5-1.0", *arguments, cpu="cortex-a72")
        assert code == 1
        assert said == "refused: built for cortex-a76 with dotprod and fullfp16; this is a Cortex-A72\n" or (
            arguments == ("--selftest",) and "with dotprod and fullfp16; this is a Cortex-A72\n" in said
        )


def test_another_architecture_is_refused(made: Path) -> None:
    code, said = run(made / "net-rpi4-1.0", "--selftest")
    assert (code, said) == (1, "refused: built for aarch64; this is x86_64\n")


def test_a_newer_glibc_than_the_boards_is_refused(copy_of, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    bundle = copy_of("rpi4")
    conf = bundle / "bundle.conf"
    conf.write_text(re.sub(r"^glibc .*$", "glibc 9.1", conf.read_text(), flags=re.MULTILINE))
    seal(bundle)
    code, said = run(bundle, "--selftest", cpu="cortex-a72")
    assert code == 1
    assert "needs glibc 9.1 or newer; this system has 2." in said


def refused_with(runtime: Path, bundle: Path, words: str) -> None:
    """Check that a bundle with another libtvm_ffi.so runs neither as it is nor sealed anew."""
    (bundle / "libtvm_ffi.so").write_bytes(runtime.read_bytes())
    code, said = run(bundle, "--selftest", cpu="cortex-a72")
    assert (code, "libtvm_ffi.so is damaged or was replaced" in said) == (1, True), said
    seal(bundle)
    for arguments in (("--selftest",), ("--input", str(bundle / "golden" / "input_0.npy"))):
        code, said = run(bundle, *arguments, cpu="cortex-a72")
        assert (code, said.splitlines()[-1]) == (1, f"refused: {words}")


@pytest.mark.parametrize("version", ["0.1.9", "0.2.0"])
def test_a_runtime_that_says_another_version_is_refused(version: str, copy_of, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    numbers = "".join(f" v[{place}] = {number};" for place, number in enumerate(version.split(".")))
    (tmp_path / "other.c").write_text(f"void TVMFFIGetVersion(unsigned* v) {{{numbers} }}\n")
    toolchain = find_toolchain(load_target("rpi4"))
    options = ["-shared", "-fPIC", "-Wl,-soname,libtvm_ffi.so", "-x", "c"]
    command = [*toolchain.linker, *options, "-o", str(tmp_path / "other.so"), str(tmp_path / "other.c")]
    subprocess.run(command, check=True)
    words = f"libtvm_ffi.so is version {version}; this bundle needs 0.1.14 or a newer 0.1"
    refused_with(tmp_path / "other.so", copy_of("rpi4"), words)


def test_the_runtime_of_the_last_version_is_refused(copy_of) -> None:  # type: ignore[no-untyped-def]
    """A real one, whose failure to load a model would tell nobody why: "it has no 'vm_load_executable'"."""

    def download(folder: Path) -> None:
        (folder / "wheels.txt").write_text(OLDER_RUNTIME)
        tags = ["--platform=manylinux_2_28_aarch64", "--python-version=3.11", "--implementation=cp", "--abi=cp311"]
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            "--only-binary=:all:",
            "--require-hashes",
        ]
        subprocess.run([*command, *tags, "-d", str(folder), "-r", str(folder / "wheels.txt")], check=True)
        with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
            (folder / "libtvm_ffi.so").write_bytes(wheel.read("tvm_ffi/lib/libtvm_ffi.so"))

    try:
        folder = cached_folder("test-older-runtime-0.1.13", download)
    except subprocess.CalledProcessError:
        pytest.skip("needs PyPI once, for the wheel of apache-tvm-ffi 0.1.13")
    words = "libtvm_ffi.so is version 0.1.13; this bundle needs 0.1.14 or a newer 0.1"
    refused_with(folder / "libtvm_ffi.so", copy_of("rpi4"), words)


def test_a_wrong_signature_is_refused_and_the_right_one_runs(made: Path, copy_of) -> None:  # type: ignore[no-untyped-def]
    """On this machine, whose libcrypto checks it; the emulated board has none."""
    bundle, trusted = made / "net-host-1.0", made / "keys" / "release.pub"
    _, other = new_keys(made / "other-keys")
    golden = str(bundle / "golden" / "input_0.npy")
    assert run(bundle, "--trust", str(trusted), "--selftest")[0] == 0
    assert run(bundle, "--trust", str(trusted), "--input", golden)[0] == 0
    for arguments in (("--selftest",), ("--input", golden)):
        code, said = run(bundle, "--trust", str(other), *arguments)
        assert code == 1
        assert "is not a signature of SHA256SUMS by the key in" in said
    changed = copy_of("host")
    (changed / "README.txt").write_text("changed")
    seal(changed)
    code, said = run(changed, "--trust", str(trusted), "--selftest")
    assert (code, "is not a signature" in said) == (1, True)
    (changed / "SHA256SUMS.sig").unlink()
    code, said = run(changed, "--trust", str(trusted), "--selftest")
    assert (code, "SHA256SUMS.sig cannot be read" in said) == (1, True)


def test_a_changed_file_of_each_kind_is_named_by_run_sh(copy_of) -> None:  # type: ignore[no-untyped-def]
    bundle = copy_of("rpi4")
    for name in ("libtvm_runtime.so", "net-rpi4.so", "golden/output_0.npy", "bundle.conf", "tvmbuild-check", "run.sh"):
        path = bundle / name
        before = path.read_bytes()
        path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        code, said = run(bundle, "--selftest", cpu="cortex-a72")
        path.write_bytes(before)
        assert code != 0, name
        assert Path(name).name in said


def test_run_sh_is_found_behind_links_and_in_any_folder(copy_of, made: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    bundle = copy_of("host").rename(tmp_path / "ein Bündel")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "model").symlink_to("../ein Bündel/run.sh")
    (tmp_path / "bin" / "run.sh").symlink_to("model")
    code, said = run(tmp_path / "bin", "--selftest")
    assert (code, said.splitlines()[-1]) == (0, "selftest passed: net-host"), said
    code, said = run(tmp_path / "bin", "--input", str(bundle / "golden" / "input_0.npy"))
    assert code == 0, said


@pytest.mark.parametrize("change", ["pipe", "link", "blank line"])
def test_checksums_that_are_no_plain_file_or_have_a_blank_line_are_refused(change: str, copy_of, made: Path) -> None:  # type: ignore[no-untyped-def]
    """A pipe would keep the check waiting for ever."""
    trusted = ("--trust", str(made / "keys" / "release.pub"))
    for name in (SUMS_NAME, f"{SUMS_NAME}.sig"):
        bundle = copy_of("host")
        path = bundle / name
        content = path.read_bytes()
        path.unlink()
        if change == "pipe":
            os.mkfifo(path)
        elif change == "link":
            (made / "elsewhere").write_bytes(content)
            path.symlink_to(made / "elsewhere")
        else:
            path.write_bytes(content.replace(b"\n", b"\n\n", 1) if name == SUMS_NAME else content + b"\n")
        for arguments in ((*trusted, "--selftest"), (*trusted, "--input", "golden/input_0.npy")):
            code, said = run(bundle, *arguments)
            assert (code, said.splitlines()[-1][:9]) == (1, "refused: "), said
        assert main(["verify", str(bundle), "--signature", trusted[1]]) == ArtifactError.exit_code
        shutil.rmtree(bundle)


def test_a_script_that_was_cut_off_anywhere_refuses(made: Path, copy_of) -> None:  # type: ignore[no-untyped-def]
    """But within its first line, which is a comment: what automates a check looks for the last line too."""
    bundle = copy_of("host")
    script = (bundle / "run.sh").read_bytes()
    first = script.index(b"\n") + 1
    lines = [at + 1 for at, byte in enumerate(script[:-1]) if byte == ord("\n")]
    for cut in sorted({first + 1, *lines[1:], *(at + 7 for at in lines[:-2]), len(script) - 3}):
        (bundle / "run.sh").write_bytes(script[:cut])
        for shell in ("dash", "bash"):
            done = subprocess.run([shell, "run.sh", "--selftest"], cwd=bundle, capture_output=True, text=True)
            assert (done.returncode != 0, done.stdout) == (True, ""), (shell, cut)
    (bundle / "run.sh").write_bytes(script[: first - 1])
    assert "selftest passed" not in run(bundle, "--selftest")[1]


def test_names_of_files_reach_no_terminal_raw(copy_of) -> None:  # type: ignore[no-untyped-def]
    bundle = copy_of("host")
    (bundle / "a\x1b[2J\x9bb").write_text("")
    code, said = run(bundle, "--selftest")
    assert (code, "a\\x1b[2J\\x9bb is not listed" in said, "\x1b" in said, "\x9b" in said) == (1, True, False, False)


def test_the_selftest_ignores_no_option(made: Path) -> None:
    _, other = new_keys(made / "any-keys")
    bundle = made / "net-host-1.0"
    code, said = run(bundle, "--selftest", "--trust", str(other))
    assert (code, "is not a signature of SHA256SUMS by the key in" in said) == (1, True), said
    for arguments in (("--selftest", "--all"), ("--trust",), ("--selftest", "--trust")):
        code, said = run(bundle, *arguments)
        assert (code, said.startswith("usage: ./run.sh")) == (2, True), said


def test_a_folder_for_the_outputs_is_made(made: Path, tmp_path: Path) -> None:
    bundle = made / "net-host-1.0"
    golden = str(bundle / "golden" / "input_0.npy")
    for _ in range(2):
        code, said = run(bundle, "--input", golden, "--output-dir", str(tmp_path / "out"))
        assert code == 0, said
        assert (tmp_path / "out" / "output_0.npy").is_file()
    code, said = run(bundle, "--input", golden, "--output-dir", str(tmp_path / "a" / "b"))
    assert (code, "cannot make the folder" in said) == (6, True), said


def test_programs_that_cannot_start_are_told_why(copy_of) -> None:  # type: ignore[no-untyped-def]
    bundle = copy_of("host")
    check, golden = bundle / CHECK_NAME, str(bundle / "golden" / "input_0.npy")
    content = check.read_bytes()
    loader = b"/lib64/ld-linux-x86-64.so.2"
    assert loader in content
    # A 32-bit system on a 64-bit kernel has no such loader either.
    check.write_bytes(content.replace(loader, loader.replace(b"ld-linux", b"no-linux")))
    code, said = run(bundle, "--input", golden)
    assert (code, "this system has no 64-bit glibc" in said) == (1, True), said
    check.write_bytes(content)
    check.chmod(0o644)
    for arguments in (("--selftest",), ("--input", golden)):
        code, said = run(bundle, *arguments)
        assert (code, "tvmbuild-check may not be executed" in said) == (1, True), said
    check.chmod(0o755)
    ffi = bundle / "libtvm_ffi.so"
    ffi.write_bytes(ffi.read_bytes().replace(b"libstdc++.so.6", b"libnowhere.so6"))
    code, said = run(bundle, "--input", golden)
    assert (code, "libtvm_ffi.so does not load on this system: libnowhere.so6: cannot open" in said) == (1, True), said


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x.astype("f8"), "input 0 (input_1) must be float32 [1, 3, 12, 10]; it is float64 [1, 3, 12, 10]"),
        (lambda x: x[:, :, 1:], "input 0 (input_1) must be float32 [1, 3, 12, 10]; it is float32 [1, 3, 11, 10]"),
        (lambda x: x[0], "input 0 (input_1) must be float32 [1, 3, 12, 10]; it is float32 [3, 12, 10]"),
    ],
)
def test_an_input_that_does_not_fit_is_told_plainly(change, words: str, made: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    bundle = made / "net-rpi4-1.0"
    np.save(tmp_path / "x.npy", np.ascontiguousarray(change(np.load(bundle / "golden" / "input_0.npy"))))
    code, said = run(bundle, "--input", str(tmp_path / "x.npy"), cpu="cortex-a72")
    assert (code, words in said) == (4, True), said


@pytest.fixture(scope="module")
def check_test(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The check's parts, compiled for this machine with their tests."""
    target = load_target("host")
    program = tmp_path_factory.mktemp("native") / "check_test"
    test = "native/check_test.cc"
    parts = sources(program_folders(test), with_main=False)
    options = [*compiler_options("c++"), "-O2", f"-isystem{runtime_libraries(target).include}"]
    command = [*find_toolchain(target).cxx, *options, "-o", str(program), str(TOP / "tests" / test)]
    subprocess.run([*command, *map(str, parts)], check=True)
    return program


def test_the_parts_of_the_check(check_test: Path) -> None:
    subprocess.run([str(check_test)], check=True, timeout=60)


def broken(text: str, chance: random.Random) -> str:
    """Return a text with one or two of its lines or characters changed, doubled, moved or cut off."""
    for _ in range(chance.randint(1, 2)):
        lines = text.splitlines(keepends=True)
        at, line = chance.randrange(len(text) + 1), chance.randrange(len(lines)) if lines else 0
        other = chance.choice("\n .-/0a\x7f\xfc")
        text = chance.choice(
            [
                text[:at] + other + text[at + 1 :],
                text[:at] + other + text[at:],
                text[:at] + text[at + 1 :],
                text[:at],
                "".join(lines[:line] + lines[line + 1 :]),
                "".join(lines[: line + 1] + lines[line:]),
                "".join(lines[line:] + lines[:line]),
            ]
        )
    return text


def test_the_check_reads_the_bundle_conf_of_the_grammar_and_no_other(
    check_test: Path, made: Path, tmp_path: Path
) -> None:
    head = "tvmbuild-bundle 1\nname n..m\narch x86_64\nglibc 2.31\ntvm-ffi 0.1.14\n"
    library, output = "library a\ncpu znver4\n", "output golden/a..b/output_0.npy 0.02\n"
    bounds = [
        head + library + "feature f\n" * features + output * outputs
        for features, outputs in [(64, 1), (65, 1), (0, 1024), (0, 1025), (0, 0)]
    ]
    bounds += [head + (library + output) * count for count in (0, 1, 64, 65)]
    bounds += [head.replace("n..m", "n" * size) + library + output for size in (100, 101)]
    for field in ("2", "2.3.4.5", "2.3.4.5.6", "999999.1", "1000000", "2.", ".2", "2..3", "-2", "+2"):
        bounds.append(head.replace("2.31", field) + library + output)
    for field in ("0", "1234567", "12345678", "0.123456789012", "0.1234567890123", "1.", ".1", "1e-3", "-1"):
        bounds.append(head + library + output.replace("0.02", field))
    for field in ("golden/a/../b", "golden/", "golden//a", "golden/a/b/c", "/golden/a", "golden/.a", "golden/../a"):
        bounds.append(head + library + output.replace("golden/a..b/output_0.npy", field))
    whole = [(made / f"net-{board}-1.0" / "bundle.conf").read_text() for board in ("rpi4", "rpi5")]
    chance = random.Random(1)
    texts = [*whole, *bounds, *(broken(chance.choice([*whole, head + library + output]), chance) for _ in range(1500))]
    for index, text in enumerate(texts):
        (tmp_path / str(index)).write_text(text, encoding="utf-8", newline="")
    done = subprocess.run(
        [str(check_test), "facts", *map(str, range(len(texts)))],
        cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    accepted = [line == "accepted" for line in done.stdout.splitlines()]
    expected = [bundle_conf().fullmatch(text) is not None for text in texts]
    assert [text for text, a, b in zip(texts, accepted, expected, strict=True) if a != b] == []
    assert all(expected[: len(whole)])
    assert 20 < sum(expected) < len(texts) - 500


def test_a_changed_byte_at_each_of_1000_places_is_refused_and_its_file_named(check_test: Path, copy_of) -> None:  # type: ignore[no-untyped-def]
    subprocess.run([str(check_test), "corrupt", str(copy_of("rpi5")), "1000", "1"], check=True, timeout=600)


def test_the_c_example_compiles_and_runs_on_the_board(copy_of) -> None:  # type: ignore[no-untyped-def]
    bundle, target, emulator = copy_of("rpi4"), load_target("rpi4"), find_emulator()
    options = ["-x", "c", "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-Iinclude", "example.c", "-x", "none"]
    libraries = ["-L.", "-Wl,--no-as-needed", "-ltvmbuild_threads", "-ltvm_runtime", "-ltvm_ffi", "-Wl,-rpath,$ORIGIN"]
    libraries += ["-o", "example"]
    subprocess.run([*find_toolchain(target).linker, *options, *libraries], check=True, cwd=bundle)
    command = [emulator.program, "-cpu", target.qemu_cpu, "-L", str(emulator.sysroot), "./example"]
    said = subprocess.run(command, check=True, cwd=bundle, capture_output=True, text=True).stdout
    assert "output 0: 3840 bytes, first value " in said


def test_tvmbuilds_own_unpacking_gives_what_tar_gives(made: Path, tmp_path: Path) -> None:
    assert extract_archive(made / "net-rpi4-1.0.tar.gz", tmp_path) == "net-rpi4-1.0"
    there = tmp_path / "net-rpi4-1.0"
    names = sorted(str(path.relative_to(there)) for path in there.rglob("*"))
    assert names == sorted(str(p.relative_to(made / "net-rpi4-1.0")) for p in (made / "net-rpi4-1.0").rglob("*"))
    assert os.access(there / CHECK_NAME, os.X_OK)
    assert run(there, "--selftest", cpu="cortex-a72")[0] == 0


def test_a_bundle_is_inspected_and_verified_as_it_is(made: Path, copy_of, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    archive = made / "net-rpi4-1.0.tar.gz"
    assert main(["inspect", str(archive)]) == 0
    assert "1 of 1 BatchNorm folded" in capsys.readouterr().out
    assert main(["verify", str(archive), "--model", str(made / "net.onnx")]) == 0
    unpacked = copy_of("rpi4")
    assert main(["inspect", str(unpacked)]) == 0
    (unpacked / "run.sh").write_text("exit 0\n")
    assert main(["inspect", str(unpacked)]) == ArtifactError.exit_code
    assert "run.sh differs" in capsys.readouterr().err
    damaged = bytearray(archive.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (made / "damaged.tar.gz").write_bytes(damaged)
    assert main(["inspect", str(made / "damaged.tar.gz")]) == ArtifactError.exit_code
    assert "damaged.tar.gz" in capsys.readouterr().err
