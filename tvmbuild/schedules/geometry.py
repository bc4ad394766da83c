"""The shape of a 2D convolution, in numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Conv2dGeometry:
    """Extents and attributes of a convolution, independent of layout.

    Attributes:
        batch: number of images.
        height: rows of the input.
        width: columns of the input.
        in_channels: channels of the input, all groups together.
        out_channels: channels of the output, all groups together.
        kernel: rows and columns of the kernel.
        stride: step in rows and columns.
        dilation: distance between taps in rows and columns.
        padding: zeros added at the top, left, bottom and right.
        groups: number of groups; each convolves its own slice of channels.
    """

    batch: int
    height: int
    width: int
    in_channels: int
    out_channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1

    @property
    def out_height(self) -> int:
        """Rows of the output."""
        reach = self.dilation[0] * (self.kernel[0] - 1) + 1
        return (self.height + self.padding[0] + self.padding[2] - reach) // self.stride[0] + 1

    @property
    def out_width(self) -> int:
        """Columns of the output."""
        reach = self.dilation[1] * (self.kernel[1] - 1) + 1
        return (self.width + self.padding[1] + self.padding[3] - reach) // self.stride[1] + 1

    @property
    def group_in(self) -> int:
        """Input channels of one group."""
        return self.in_channels // self.groups

    @property
    def group_out(self) -> int:
        """Output channels of one group."""
        return self.out_channels // self.groups

    @property
    def macs(self) -> int:
        """Multiply-accumulates by the definition."""
        outputs = self.batch * self.out_height * self.out_width * self.out_channels
        return outputs * math.prod(self.kernel) * self.group_in

    @property
    def is_padded(self) -> bool:
        """Whether it reads outside its input."""
        return any(self.padding)

    @property
    def is_pointwise(self) -> bool:
        """Whether each output depends on the one input position under it: a matrix product over all positions."""
        return self.kernel == (1, 1) and self.stride == (1, 1) and not self.is_padded

    @property
    def is_depthwise(self) -> bool:
        """Whether each output channel reads one input channel."""
        return self.groups == self.in_channels and self.groups > 1

    @property
    def workload(self) -> str:
        """One line for people: ``conv2d 1x56x56x64 to 64, 3x3 stride 1``."""
        text = f"conv2d {self.batch}x{self.height}x{self.width}x{self.in_channels} to {self.out_channels}"
        text += f", {self.kernel[0]}x{self.kernel[1]}"
        if self.stride != (1, 1):
            text += f" stride {_pair(self.stride)}"
        if self.dilation != (1, 1):
            text += f" dilation {_pair(self.dilation)}"
        if self.is_padded:
            text += f" padding {_pair(self.padding)}"
        return text + (f" groups {self.groups}" if self.groups > 1 else "")

    def numbers(self) -> list[int]:
        """Return the geometry as a list of integers, for a block's annotation."""
        return [
            *(self.batch, self.height, self.width, self.in_channels, self.out_channels),
            *(*self.kernel, *self.stride, *self.dilation, *self.padding, self.groups),
        ]

    @classmethod
    def from_numbers(cls, numbers: Sequence[int]) -> Conv2dGeometry:
        """Restore the geometry from ``numbers()``."""
        n = [int(number) for number in numbers]
        return cls(
            n[0],
            n[1],
            n[2],
            n[3],
            n[4],
            kernel=(n[5], n[6]),
            stride=(n[7], n[8]),
            dilation=(n[9], n[10]),
            padding=(n[11], n[12], n[13], n[14]),
            groups=n[15],
        )


def _pair(values: Sequence[int]) -> str:
    return str(values[0]) if len(set(values)) == 1 else "x".join(map(str, values))
