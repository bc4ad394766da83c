"""Which version of each function of libm is linked for an older glibc."""

from __future__ import annotations

import pytest

from tvmbuild.codegen.old_libm import choose_versions, old_libm_options
from tvmbuild.codegen.toolchain import Toolchain
from tvmbuild.target.target import load_target

VERSIONS = {
    "exp": {"2.17", "2.29"},
    "fmodf": {"2.17", "2.38"},
    "tanhf": {"2.17"},
    "fadd": {"2.28"},
    "fmaximum": {"2.35"},
}


@pytest.mark.parametrize(
    ("glibc", "expected"),
    [
        ("2.17", {"exp": "2.17", "fmodf": "2.17", "tanhf": "2.17"}),
        ("2.28", {"exp": "2.17", "fmodf": "2.17", "tanhf": "2.17", "fadd": "2.28"}),
        ("2.31", {"exp": "2.29", "fmodf": "2.17", "tanhf": "2.17", "fadd": "2.28"}),
        ("2.100", {"exp": "2.29", "fmodf": "2.38", "tanhf": "2.17", "fadd": "2.28", "fmaximum": "2.35"}),
    ],
)
def test_newest_version_that_a_glibc_has(glibc: str, expected: dict[str, str]) -> None:
    assert choose_versions(VERSIONS, glibc) == expected


def test_a_toolchain_that_links_for_any_glibc_needs_no_stub() -> None:
    zig = Toolchain("zig", ("zig", "c++"), ("zig", "cc"), "zig 0", links_old_glibc=True)
    assert old_libm_options(load_target("rpi4"), zig) == []
