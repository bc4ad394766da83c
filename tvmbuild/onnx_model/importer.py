"""TVM's ONNX importer with our converters before its own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tvm.relax.frontend.onnx.onnx_frontend import ONNXGraphImporter

from tvmbuild.onnx_model.converters import CONVERTERS
from tvmbuild.onnx_model.indices import check_indices


class Importer(ONNXGraphImporter):  # type: ignore[misc]  # tvm is not typed
    """The importer; nothing of TVM's module is changed."""

    def _convert_operator(self, op_name: str, inputs: Sequence[Any], attrs: Mapping[str, Any], opset: int) -> Any:
        inputs = check_indices(self.bb, op_name, inputs, attrs)
        converter = CONVERTERS.get(op_name)
        converted = converter(self.bb, inputs, attrs) if converter else None
        if converted is None:
            return super()._convert_operator(op_name, inputs, attrs, opset)
        return self.bb.normalize(converted)

    def _sanitize_name(self, name: str) -> str:
        """Return an identifier, so that the module can be printed and read again."""
        identifier = re.sub(r"\W", "_", name, flags=re.ASCII)
        if not identifier[:1].isalpha():
            identifier = "input_" + identifier
        return str(self._name_supply.fresh_name(identifier))
