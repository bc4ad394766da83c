"""TOML: project files, targets and recipes for pictures."""

from __future__ import annotations

from random import Random

from attacks.attempt import command
from attacks.mutate import bytes_of
from attacks.tally import Place, Tally, until

NAME = "TOML"
#: Right sides of a line that break what trusts types, sizes or depth.
_VALUES = (
    *(
        "inf",
        "-inf",
        "nan",
        "-1",
        "0",
        "9223372036854775808",
        f"1{'0' * 400}",
        "1e400",
        "true",
        "1979-05-27",
        "07:32:00",
    ),
    *(
        '""',
        '"\\u001b[2J"',
        '"a\\nb"',
        '"""\n\n"""',
        f'"{"x" * 100_000}"',
        '"../../../x"',
        '"/dev/zero"',
        '"\\u0000"',
        '"\\uD800"',
    ),
    *(
        "[]",
        "{}",
        "[[]]",
        "[1]",
        '["\\u001b"]',
        '["x=1,3"]',
        "{a = {b = 1}}",
        "[" * 3000,
        "[" * 3000 + "]" * 3000,
        "{a=" * 3000,
    ),
    *(f"[{'1,' * 10_000}]", '["' + "/" * 5000 + '"]', "'''\x1b'''"),
)
_PROJECT = {
    "build": (
        "target",
        "shape",
        "value",
        "output",
        "name",
        "toolchain",
        "seed",
        "precision",
        "fp16",
        "int8",
        "calibrate",
        "records",
        "x",
    ),
    "quantize": ("images", "table", "budget", "method", "seed", "min_samples", "x"),
    "verify": ("on", "inputs", "samples", "seed", "tolerance", "threads", "timeout"),
    "device": ("tracker", "key"),
    "cache": ("remote_cache", "cache_trusted_key", "cache_key"),
    "release": ("version", "targets", "precision", "bundles", "models", "toolchain", "predict"),
    "[release.models]": ("path", "name", "shape", "value", "targets", "precision", "license", "tolerance", "calibrate"),
}
_TARGET = (
    *(
        "description",
        "triple",
        "cpu",
        "features",
        "cores",
        "l1d_kib",
        "l2_kib",
        "max_mhz",
        "glibc",
        "toolchains",
        "qemu_cpu",
    ),
    *("x", "name"),
)
_COMMANDS = {
    "build": ["build", "absent.onnx"],
    "quantize": ["quantize", "absent.onnx", "--calibrate", "."],
    "verify": ["verify", "absent.so", "--model", "absent.onnx"],
    "device": ["device", "list", "--tracker", "127.0.0.1:1"],
}


def attack(place: Place, seconds: float) -> Tally:
    """Put hostile values into each field of project and target files; no model is there, so no command can succeed."""
    tally, folder, random = Tally(NAME), place.scratch(NAME), Random(place.seed)
    base = 'description = "x"\ntriple = "aarch64-linux-gnu"\ncpu = "cortex-a72"\nfeatures = ["neon"]\ncores = 4\n'
    base += 'l1d_kib = 32\nl2_kib = 1024\nglibc = "2.31"\n'
    cases = [("target", key, value) for key in _TARGET for value in _VALUES]
    cases += [(table, key, value) for table, keys in _PROJECT.items() for key in keys for value in _VALUES]
    random.shuffle(cases)
    project = folder / "tvmbuild.toml"
    for number in until(seconds):
        table, key, value = cases[number % len(cases)]
        damage = (lambda text: bytes_of(random, text)) if number >= len(cases) else (lambda text: text)
        project.unlink(missing_ok=True)
        if table == "target":
            kept = [line for line in base.splitlines() if not line.startswith(f"{key} =")]
            (folder / "t.toml").write_bytes(damage("\n".join([*kept, f"{key} = {value}", ""]).encode()))
            arguments = ["build", "absent.onnx", "-t", "./t.toml"]
        else:
            head = "[release]\n" if table == "[release.models]" else ""
            project.write_bytes(damage(f"{head}[{table}]\n{key} = {value}\n".encode()))
            arguments = _COMMANDS.get(table, ["release"])
        tally.take(f"[{table}] {key} = {value[:40]}", command(arguments, folder))
    return tally
