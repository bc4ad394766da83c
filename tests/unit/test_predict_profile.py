"""The reader of the plugin's profiles."""

from pathlib import Path

import pytest

from tvmbuild.predict.profile import ParallelLoop, parse_profile, read_profile
from tvmbuild.support.errors import DeviceError

REGION = "\n".join(
    [
        "P 2",
        "R 0 11 6",
        "M 0 ",
        "M 1 /opt/my models/model.so",
        "L 4000 2 8 9 4",
        "B 3 4000 1 1000 4 3 2 1 4e22cc00d65f03c0d503201f",
        "B 1 5000 0 0 0 0 0 0 d503201fd65f03c0",
    ]
)


def test_reads_counts_code_and_modules() -> None:
    profile = parse_profile(REGION)
    assert (profile.instructions, profile.accesses) == (11, 6)
    first, second = profile.blocks
    assert first.module == "/opt/my models/model.so"
    assert (first.address, first.offset, first.count) == (0x4000, 0x1000, 3)
    assert first.words == ("4e22cc00", "d65f03c0", "d503201f")
    assert (first.l1_misses, first.l2_misses, first.memory_reads, first.memory_writes) == (4, 3, 2, 1)
    assert first.end == 0x400C
    assert first.executed == 9
    assert second.module == ""
    assert profile.loops == (ParallelLoop(0x4000, launches=2, tasks=8, instructions=9, longest=4),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("P 1\nR 0 0 0", "starts with"),
        ("P 2", "0 marked regions"),
        ("P 2\nR 0 0 0\nR 0 0 0", "2 marked regions"),
        ("P 2\nX", "a line that starts"),
        ("\n".join(REGION.splitlines()[:-1]), "cut off"),
        (REGION[:-12], "cut off"),
        ("P 2\nR 0 1 0\nB 1 4000 7 0 0 0 0 0 d503201f", "'7'"),
        ("P 2\nR 0 1 0\nM 0 \nB 1 4000 0 0 0 0 d503201f", "2 counts and not 4"),
        ("P 2\nR 0 0 0\nL 4000 1 2 3", "3 counts and not 4"),
        ("", "unpack"),
    ],
)
def test_a_wrong_profile_is_an_error_of_the_device(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "profile"
    path.write_text(text)
    with pytest.raises(DeviceError, match=said):
        read_profile(path)


def test_a_missing_profile_is_an_error_of_the_device(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="left no profile"):
        read_profile(tmp_path / "none")
