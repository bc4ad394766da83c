"""From a float model and sample inputs to an int8 model in the standard QDQ form.

``quantize_model(model, calibrate=..., calibrate_mode="kl_divergence", weight_scale="max")`` does all of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tvmbuild.quantization.quantizer import Quantized, quantize_model

__all__ = ["Quantized", "quantize_model"]


def __getattr__(name: str) -> object:
    # NumPy and onnx are imported when they are needed.
    if name in __all__:
        from tvmbuild.quantization import quantizer

        return getattr(quantizer, name)
    raise AttributeError(name)
