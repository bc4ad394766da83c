"""The oracle on x86 CPUs that this machine need not be, by QEMU's models of them."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
EXACT = "tests/unit/test_onnx_model_exact_sums.py"
#: ONNX Runtime as it is, on products of uint8 and int8 codes near their ends. Were it right, a CPU would show nothing.
RAW = """
import numpy as np, onnxruntime
from onnx import TensorProto, helper, numpy_helper
a, b = np.full((2, 64), 250, np.uint8), np.full((64, 8), 120, np.int8)
graph = helper.make_graph([helper.make_node("MatMulInteger", ["a", "b"], ["y"])], "g",
    [helper.make_tensor_value_info("a", TensorProto.UINT8, [2, 64])],
    [helper.make_tensor_value_info("y", TensorProto.INT32, [2, 8])], [numpy_helper.from_array(b, "b")])
proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])

def test_raw():
    assert (session.run(None, {"a": a})[0] == a.astype(int) @ b.astype(int)).all() == IS_EXACT
"""

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="other x86 CPUs are emulated on x86 alone")


@pytest.mark.parametrize(("cpu", "is_exact"), [("sse", True), ("avx2", False)])
def test_the_reference_is_exact_where_onnx_runtime_is_not(cpu: str, is_exact: bool, tmp_path: Path) -> None:
    raw = tmp_path / "test_raw.py"
    raw.write_text(f"IS_EXACT = {is_exact}\n{RAW}")
    command = [sys.executable, "scripts/test_as.py", cpu, "-q", str(raw), EXACT]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
