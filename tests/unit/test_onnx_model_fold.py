"""Folding keeps the dtypes that ONNX gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper
from onnx_models import model

from tvmbuild.onnx_model.rewrites.fold import fold_constants


@pytest.mark.parametrize(
    ("attribute", "value", "dtype"),
    [
        ("value_float", 1.5, np.float32),
        ("value_floats", [1.5, 2.5], np.float32),
        ("value_int", 3, np.int64),
        ("value_ints", [3, 4], np.int64),
    ],
)
def test_plain_numbers_of_a_constant_keep_their_dtype(attribute: str, value: Any, dtype: type) -> None:
    constant: Any = {attribute: value}
    nodes = [helper.make_node("Constant", [], ["c"], **constant), helper.make_node("Add", ["x", "c"], ["y"])]
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    proto = model(nodes, {"x": [2]}, ["y"], dtypes={"x": kind, "y": kind})
    before = proto.SerializeToString()
    folded = fold_constants(proto)
    (weight,) = folded.graph.initializer
    np.testing.assert_array_equal(numpy_helper.to_array(weight), np.array(value, dtype), strict=True)
    assert proto.SerializeToString() == before
