from __future__ import annotations

from pathlib import Path

import pytest

from tvmbuild.support.errors import TargetError
from tvmbuild.target.target import known_targets, load_target, targets_folder

RPI4 = (targets_folder() / "rpi4.toml").read_text()


def test_every_builtin_target_loads_and_names_a_core() -> None:
    assert known_targets() == ["generic-aarch64", "host", "rpi3", "rpi4", "rpi5", "rpizero2w"]
    for name in set(known_targets()) - {"host"}:
        target = load_target(name)
        assert target.name == name
        assert target.arch == "aarch64"
        assert target.qemu_cpu not in ("", "max")
        assert target.has("neon")


def test_only_the_cores_that_have_dotprod_say_so() -> None:
    assert [name for name in known_targets() if name != "host" and load_target(name).has("dotprod")] == ["rpi5"]


def test_unknown_target_names_the_nearest() -> None:
    with pytest.raises(TargetError) as caught:
        load_target("rpi44")
    assert "rpi44" in caught.value.message
    assert "Did you mean 'rpi4'?" in caught.value.hint


def test_unknown_key_names_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "board.toml"
    path.write_text(RPI4.replace("l2_kib", "l2_kb"))
    with pytest.raises(TargetError) as caught:
        load_target(str(path))
    assert "'l2_kb'" in caught.value.message
    assert "'l2_kib'" in caught.value.hint


def test_own_file_works_by_path(tmp_path: Path) -> None:
    path = tmp_path / "board.toml"
    path.write_text(RPI4.replace('"cortex-a72"', '"cortex-a55"'))
    target = load_target(str(path))
    assert (target.name, target.cpu) == ("board", "cortex-a55")


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("cores = 0", "cores"),
        ("cores = true", "cores"),
        ('cores = "4"', "cores"),
        ("features = 'neon'", "features"),
        ("features = [1]", "features"),
        ("cpu = 72", "cpu"),
        ("cores = 2.5", "cores"),
        ("cores = inf", "cores"),
        (f"cores = {2**70}", "cores"),
        ('glibc = "two"', "glibc"),
        ('triple = "aarch64"', "triple"),
        ("max_mhz = -1", "max_mhz"),
        ("toolchains = []", "toolchains"),
    ],
)
def test_values_of_the_wrong_type_are_named(tmp_path: Path, line: str, named: str) -> None:
    path = tmp_path / "board.toml"
    key = line.split(" ")[0]
    path.write_text("\n".join(line if row.startswith(f"{key} ") else row for row in RPI4.splitlines()))
    with pytest.raises(TargetError, match=rf"'{named}(\[0\])?' must be"):
        load_target(str(path))


def test_missing_key_and_broken_file(tmp_path: Path) -> None:
    path = tmp_path / "board.toml"
    path.write_text("\n".join(row for row in RPI4.splitlines() if not row.startswith("cpu")))
    with pytest.raises(TargetError, match="lacks cpu"):
        load_target(str(path))
    path.write_text("cores = = 4")
    with pytest.raises(TargetError, match="cannot be read"):
        load_target(str(path))
    with pytest.raises(TargetError, match="does not exist"):
        load_target(str(tmp_path / "none.toml"))


def test_host_is_described_from_this_machine() -> None:
    target = load_target("host")
    assert target.is_native
    assert target.misfit == ""
    assert target.is_this_core
    assert target.cores >= 1
    assert target.cpu not in ("", "native")
    assert target.vector_bits >= 128
