"""What the prediction reads from assembly text."""

from dataclasses import replace

import pytest

from tvmbuild.predict.instructions import (
    branch_displacement,
    multiply_add_bound,
    multiply_adds,
    spilled_accumulators,
)
from tvmbuild.target.target import load_target, predicted_core

A72 = predicted_core(load_target("rpi4"))
A76 = predicted_core(load_target("rpi5"))


@pytest.mark.parametrize(
    ("text", "work"),
    [
        ("fmla v0.4s, v1.4s, v2.s[0]", (4, "float32")),
        ("fmla v0.2s, v1.2s, v2.2s", (2, "float32")),
        ("fmla v0.2d, v1.2d, v2.2d", (4, "float32")),
        ("fmla v0.8h, v1.8h, v2.h[3]", (8, "float16")),
        ("fmadd s0, s1, s2, s0", (1, "float32")),
        ("fmla s0, s1, v2.s[0]", (1, "float32")),
        ("sdot v0.4s, v1.16b, v2.4b[0]", (16, "int8")),
        ("smull v0.8h, v1.8b, v2.8b", (8, "int8")),
        ("smlal2 v0.8h, v1.16b, v2.16b", (8, "int8")),
        ("smlal v0.4s, v1.4h, v2.4h", None),
        ("umull x0, w1, w2", None),
        ("fadd v0.4s, v1.4s, v2.4s", None),
        ("ldr q0, [x1]", None),
    ],
)
def test_multiply_adds(text: str, work: tuple[int, str] | None) -> None:
    assert multiply_adds(text) == work


def test_the_bound_depends_on_the_core() -> None:
    body = ["ldr q0, [x1]", *["fmla v1.4s, v0.4s, v2.s[0]"] * 8, "b.ne #-36"]
    assert multiply_add_bound(body, A72) == (8, 8.0)
    assert multiply_add_bound(body, A76) == (8, 4.0)


def test_a_core_without_fp16_has_no_bound_for_it() -> None:
    assert multiply_add_bound(["fmla v1.8h, v0.8h, v2.8h"], A72) == (0, 0.0)
    assert multiply_add_bound(["fmla v1.8h, v0.8h, v2.8h"], replace(A72, float16_macs=8)) == (1, 1.0)


@pytest.mark.parametrize(
    ("text", "displacement"),
    [
        ("b.ne #-116", -116),
        ("b #8", 8),
        ("cbz x0, #40", 40),
        ("tbnz w3, #5, #-20", -20),
        ("bl #1024", None),
        ("svc #0", None),
        ("ret", None),
        ("add x0, x0, #16", None),
    ],
)
def test_branch_displacement(text: str, displacement: int | None) -> None:
    assert branch_displacement(text) == displacement


def test_an_accumulator_on_the_stack_is_a_spill() -> None:
    body = ["ldr q0, [sp, #16]", "fmla v0.4s, v1.4s, v2.4s", "str q0, [sp, #16]", "b.ne #-12"]
    assert spilled_accumulators(body) == 1


def test_a_value_that_is_only_reloaded_or_only_stored_is_none() -> None:
    body = ["ldr q0, [sp, #16]", "str q1, [sp, #32]", "ldr q2, [x0]", "str q2, [x0]"]
    assert spilled_accumulators(body) == 0


def test_a_slot_that_is_stored_before_it_is_loaded_carries_nothing_to_the_next_iteration() -> None:
    assert spilled_accumulators(["str q0, [sp]", "ldr q1, [sp]"]) == 0
