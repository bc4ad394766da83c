"""Export a network of GPEN's architecture, with random weights, to ONNX: `python export.py gpen.onnx`.

Written from the papers' descriptions (T. Yang et al., "GAN Prior Embedded Network for Blind Face Restoration in the
Wild", CVPR 2021; T. Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020): an encoder
whose features feed the decoder of StyleGAN2 as its noise. Nothing was trained: it shows speed, not portraits.
"""

from __future__ import annotations

import math
import sys

import torch
from torch import Tensor, nn
from torch.nn import functional

SIZE, STYLE, SHARE = 256, 512, 0.25
#: Channels by image size; SHARE of those of the paper.
CHANNELS = {
    size: int(SHARE * min(512, 16384 * 2 // size if size > 32 else 512)) for size in (4, 8, 16, 32, 64, 128, 256, 512)
}


class Linear(nn.Module):
    """A linear layer with equalized learning rate."""

    def __init__(self, inputs: int, outputs: int, bias: float = 0.0, rate: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter(torch.full((outputs,), bias / rate))
        self.scale, self.rate = rate / math.sqrt(inputs), rate

    def forward(self, x: Tensor) -> Tensor:
        """Map [1, inputs] to [1, outputs]."""
        return functional.linear(x, self.weight * self.scale, self.bias * self.rate)


class Activation(nn.Module):
    """Bias, leaky ReLU, and the gain that keeps the variance."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Activate [1, channels, height, width]."""
        return functional.leaky_relu(x + self.bias, 0.2) * math.sqrt(2)


class Filter(nn.Module):
    """A low-pass filter over each channel on its own, after padding, between zeros where it doubles the size."""

    def __init__(self, before: int, after: int, double: bool = False, gain: float = 1.0) -> None:
        super().__init__()
        row = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer("taps", gain * torch.outer(row, row))
        self.pad, self.double = (before, after, before, after), double

    def forward(self, x: Tensor) -> Tensor:
        """Filter [1, channels, height, width]."""
        _, channels, height, width = map(int, x.shape)
        x = x.reshape(-1, 1, height, width)
        if self.double:
            x = functional.pad(x.reshape(-1, height, 1, width, 1), (0, 1, 0, 0, 0, 1))
            x = x.reshape(-1, 1, 2 * height, 2 * width)
        x = functional.conv2d(functional.pad(x, self.pad), self.taps[None, None])
        return x.reshape(-1, channels, *map(int, x.shape[2:]))


class Modulated(nn.Module):
    """A convolution whose weights a style scales, then normalized by output channel."""

    def __init__(self, inputs: int, outputs: int, kernel: int, double: bool = False, normalize: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel) / math.sqrt(inputs * kernel**2))
        self.style = Linear(STYLE, inputs, bias=1.0)
        self.double, self.normalize = double, normalize
        self.filter = Filter(1, 1, gain=4.0)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Convolve [1, inputs, height, width] as the style [1, STYLE] says."""
        weight = self.weight * self.style(style).reshape(1, -1, 1, 1)
        if self.normalize:
            energy = weight.pow(2).sum((1, 2, 3), keepdim=True)
            weight = weight * torch.rsqrt(energy + 1e-8)
        if self.double:
            return self.filter(functional.conv_transpose2d(x, weight.transpose(0, 1), stride=2))
        return functional.conv2d(x, weight, padding=self.weight.shape[2] // 2)


class Styled(nn.Module):
    """A modulated convolution, the encoder's features beside its result, and the activation."""

    def __init__(self, inputs: int, outputs: int, double: bool = False) -> None:
        super().__init__()
        self.convolution = Modulated(inputs, outputs, 3, double)
        self.strength = nn.Parameter(torch.ones(1))
        self.activation = Activation(2 * outputs)

    def forward(self, x: Tensor, style: Tensor, features: Tensor) -> Tensor:
        """Give twice the outputs: of the convolution, and the features."""
        return self.activation(torch.cat([self.convolution(x, style), self.strength * features], 1))


class Gpen(nn.Module):
    """An image [1, 3, SIZE, SIZE] of values from -1 to 1 to another of that shape."""

    def __init__(self) -> None:
        super().__init__()
        sizes = [size for size in CHANNELS if size <= SIZE]
        self.first = nn.Conv2d(3, CHANNELS[SIZE], 1, bias=False)
        self.first_activation = Activation(CHANNELS[SIZE])
        self.down = nn.ModuleList(
            nn.Sequential(
                Filter(2, 2),
                nn.Conv2d(CHANNELS[size], CHANNELS[size // 2], 3, stride=2, bias=False),
                Activation(CHANNELS[size // 2]),
            )
            for size in reversed(sizes[1:])
        )
        self.encode = Linear(16 * CHANNELS[4], STYLE)
        self.mapping = nn.ModuleList(Linear(STYLE, STYLE, rate=0.01) for _ in range(8))
        self.start = nn.Parameter(torch.randn(1, CHANNELS[4], 4, 4))
        self.begin = Styled(CHANNELS[4], CHANNELS[4])
        self.up = nn.ModuleList(Styled(2 * CHANNELS[size // 2], CHANNELS[size], True) for size in sizes[1:])
        self.refine = nn.ModuleList(Styled(2 * CHANNELS[size], CHANNELS[size]) for size in sizes[1:])
        self.colours = nn.ModuleList(Modulated(2 * CHANNELS[size], 3, 1, normalize=False) for size in sizes)
        self.enlarge = Filter(2, 1, double=True, gain=4.0)

    def forward(self, image: Tensor) -> Tensor:
        """Restore an image."""
        features = [self.first_activation(self.first(image))]
        for layer in self.down:
            features.append(layer(features[-1]))
        style = functional.leaky_relu(self.encode(features[-1].flatten(1)), 0.2) * math.sqrt(2)
        style = style * torch.rsqrt(style.pow(2).mean(1, keepdim=True) + 1e-8)
        for layer in self.mapping:
            style = functional.leaky_relu(layer(style), 0.2) * math.sqrt(2)
        x = self.begin(self.start, style, features[-1])
        colours = self.colours[0](x, style)
        for number, (up, refine) in enumerate(zip(self.up, self.refine, strict=True)):
            skip = features[-2 - number]
            x = refine(up(x, style, skip), style, skip)
            colours = self.colours[number + 1](x, style) + self.enlarge(colours)
        return colours


if __name__ == "__main__":
    torch.manual_seed(0)
    model = Gpen().eval()
    example = torch.rand(1, 3, SIZE, SIZE) * 2 - 1
    torch.onnx.export(model, (example,), sys.argv[1], input_names=["image"], output_names=["restored"], dynamo=True)
