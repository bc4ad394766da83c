"""Weights in the order in which kernels read them, arranged by NumPy at build time."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def pack_conv2d(weight: Array, block: int, groups: int = 1) -> Array:
    """Pack convolution weights for blocks of output channels.

    Args:
        weight: OIHW, shape (out_channels, in_channels / groups, kernel_h, kernel_w).
        block: output channels of a block.
        groups: groups of the convolution; a block never spans two.

    Returns:
        Shape (groups * ceil(out_channels / groups / block), kernel_h, kernel_w, in_channels / groups, block),
        zeros in the channels that fill up a group's last block.
    """
    out_channels, in_channels, kernel_h, kernel_w = weight.shape
    per_group = out_channels // groups
    blocks = -(-per_group // block)
    padded = np.zeros((groups, blocks * block, in_channels, kernel_h, kernel_w), weight.dtype)
    padded[:, :per_group] = weight.reshape(groups, per_group, in_channels, kernel_h, kernel_w)
    split = padded.reshape(groups * blocks, block, in_channels, kernel_h, kernel_w)
    return np.ascontiguousarray(split.transpose(0, 3, 4, 2, 1))


def pack_matrix(matrix: Array, block: int) -> Array:
    """Pack the right factor of a matrix product.

    Args:
        matrix: shape (depth, columns).
        block: columns of a block.

    Returns:
        Shape (ceil(columns / block), depth, block), zeros in the columns that fill up the last block.
    """
    depth, columns = matrix.shape
    blocks = -(-columns // block)
    padded = np.zeros((depth, blocks * block), matrix.dtype)
    padded[:, :columns] = matrix
    return np.ascontiguousarray(padded.reshape(depth, blocks, block).transpose(1, 0, 2))
