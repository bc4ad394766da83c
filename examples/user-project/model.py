#!/usr/bin/env python3
"""Write net.onnx, the small network of this example."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

rng = np.random.default_rng(0)
weights = [
    numpy_helper.from_array(rng.normal(0, 0.3, (8, 3, 3, 3)).astype(np.float32), "w1"),
    numpy_helper.from_array(rng.normal(0, 0.3, (8, 8, 3, 3)).astype(np.float32), "w2"),
]
nodes = [
    helper.make_node("Conv", ["x", "w1"], ["a"], pads=[1, 1, 1, 1]),
    helper.make_node("Relu", ["a"], ["b"]),
    helper.make_node("Conv", ["b", "w2"], ["c"], pads=[1, 1, 1, 1]),
    helper.make_node("Add", ["b", "c"], ["y"]),
]
x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 16, 16])
y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 8, 16, 16])
graph = helper.make_graph(nodes, "net", [x], [y], weights)
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), "net.onnx")
