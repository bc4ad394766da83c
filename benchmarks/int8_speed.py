#!/usr/bin/env python3
"""Predict int8 models beside float ones and write the tables of speed and size in docs/int8.md. Takes five minutes.

The weights are random, and so are the samples that calibrate: neither changes what is executed.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import page, store
from benchmarks.kernels import RESULTS, machine
from benchmarks.models import PREDICTED, model, quantized
from benchmarks.predicted import predict_model

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TOP = Path(__file__).resolve().parent.parent
PAGE = TOP / "docs" / "int8.md"
TARGETS = ("rpi4", "rpi5")
MARKERS = (
    "<!-- int8-speed: start; written by benchmarks/int8_speed.py, do not edit -->",
    "<!-- int8-speed: end -->",
)

NOTE = """## Speed and size (predicted)

Millions of cycles of one inference, one thread, batch 1. **Predicted, not timed** (see [predict.md](predict.md)): "est"
adds the lines that are moved, "comp" is computing alone. The peers were measured in November 2026 (onnxruntime 1.32.0
and LiteRT 2.3.0, both with int8 weights and activations), their "est" by the model of that time, which counted no
lines written back; a dash is a figure that was not measured. No tuning.
Sizes are of the `.so`, as shares of the float one's. "all int8" is what `quantize` writes for any core; "for the board"
is what `build --int8` and `quantize --for` write, with the layers in float that int8 slows down there (how many, in
brackets)."""


def main() -> int:
    """Predict every model on every board and write the page."""
    for name in PREDICTED:
        subject = model(name, TOP / "build")
        integer, _ = quantized(subject, RESULTS / "artifacts", None)
        for target in TARGETS:
            mixed, kept = quantized(subject, RESULTS / "artifacts", target)
            for precision, each in (("fp32", subject), ("int8", integer), ("mixed", mixed)):
                print(f"{name} {target} {precision}", file=sys.stderr, flush=True)
                result = predict_model(each, target, RESULTS / "artifacts")
                store.save(RESULTS, "int8", f"{name}-{target}-{precision}", {**result, "kept": kept})
    limits = tomllib.loads(Path(__file__).with_name("limits.toml").read_text(encoding="utf-8"))
    page.write(PAGE, render(store.load(RESULTS, "int8"), limits), MARKERS)
    return 0


def render(results: Mapping[str, store.Result], limits: Mapping[str, Any]) -> str:
    """Return the tables."""
    made = page.made_with(results.values(), machine(), "benchmarks/int8_speed.py")
    parts = [made, NOTE, speed_table(results, limits["int8"])]
    parts += ["### Kernel by kernel", page.KERNEL_NOTE]
    for name, result in results.items():
        if name.endswith("int8"):
            hot = page.hot_loops(result["kernels"], limits["hot_loop"]["share"])
            parts += [f"#### {name}", page.kernel_table(result), hot]
    return "\n\n".join(parts)


def speed_table(results: Mapping[str, store.Result], limits: Mapping[str, Any]) -> str:
    """Return the table of whole networks beside their limits."""
    peers = ("onnxruntime", "LiteRT")
    head = ["model", "core", "judged by", *peers, "our fp32", "all int8", "for the board", "must", "aim", "sizes"]
    rows = []
    for row in limits["rows"]:
        real, integer, mixed = (
            results[f"{row['model']}-{row['target']}-{precision}"] for precision in ("fp32", "int8", "mixed")
        )
        measure, size = row["measure"], max(mixed["library_bytes"], integer["library_bytes"]) / real["library_bytes"]
        worse = max(integer[measure], mixed[measure])
        rows.append(
            [
                row["model"],
                row["target"],
                measure,
                *(f"{row['peers'][peer]:g}" if peer in row["peers"] else "-" for peer in peers),
                f"{real[measure]:.1f}",
                f"**{integer[measure]:.1f}**",
                f"**{mixed[measure]:.1f}** ({mixed['kept']})",
                page.judged(worse, row["must"]),
                page.judged(worse, row["aim"]),
                f"{integer['library_bytes'] / real['library_bytes']:.2f}, "
                f"{mixed['library_bytes'] / real['library_bytes']:.2f} ({page.judged(size, limits['size'])})",
            ]
        )
    return page.table(head, rows)


if __name__ == "__main__":
    sys.exit(main())
