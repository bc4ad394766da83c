"""ONNX Runtime with a model's inner tensors as outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx

from tvmbuild.onnx_model.reference import reference_session, with_shapes
from tvmbuild.onnx_model.skeleton import weight_bytes
from tvmbuild.support.errors import CalibrationError

#: A protobuf message ends at 2 GiB.
_LARGEST_MESSAGE = 1 << 31


class ActivationSession:
    """Runs a model on one thread and returns the named tensors.

    Every tensor is what ONNX says, as in every reference.
    """

    def __init__(self, model: onnx.ModelProto, tensors: Sequence[str]) -> None:
        """Load the model.

        Args:
            model: all weights in memory.
            tensors: names of outputs or of tensors inside the graph.

        Raises:
            CalibrationError: ONNX Runtime refuses the model.
        """
        self.names = list(tensors)
        if weight_bytes(model) >= _LARGEST_MESSAGE:
            raise CalibrationError("Models with more than 2 GiB of weights cannot be calibrated.", "Split the model.")
        try:
            # An arena keeps the most that it ever needed; samples are alike, and what is returned is freed at once.
            self._session = reference_session(with_shapes(model, {}, self.names), threads=1, arena=False)
        except Exception as error:
            raise CalibrationError(_reason(error), "See `tvmbuild inspect MODEL.onnx`.") from error
        self._inputs = {value.name for value in model.graph.input}

    def run(self, sample: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the tensors by name.

        Raises:
            CalibrationError: ONNX Runtime refuses the inputs.
        """
        given = {name: array for name, array in sample.items() if name in self._inputs}
        try:
            results = self._session.run(self.names, given)
        except Exception as error:
            raise CalibrationError(_reason(error), "Does the sample fit the model's inputs?") from error
        return dict(zip(self.names, results, strict=True))


def _reason(error: Exception) -> str:
    return f"ONNX Runtime refuses the model or the sample: {' '.join(str(error).split())[:300]}"
