"""Integer weights in the order in which kernels read them, arranged by NumPy at build time."""

from __future__ import annotations

import numpy as np

from tvmbuild.schedules.gemm.packing import Array


def pack_conv2d(weight: Array, block: int, run: int, runs: int, groups: int = 1) -> Array:
    """Pack convolution weights for blocks of output channels and runs of input channels.

    Args:
        weight: OIHW, shape (out_channels, in_channels / groups, kernel_h, kernel_w).
        block: output channels of a block; none spans two groups.
        run: input channels that lie together for each output channel.
        runs: runs for all input channels of a group.
        groups: groups of the convolution.

    Returns:
        Shape (groups * ceil(out_channels / groups / block), kernel_h, kernel_w, runs, block,
        run), zeros where blocks and runs are not full.
    """
    out_channels, in_channels, kernel_h, kernel_w = weight.shape
    per_group = out_channels // groups
    blocks = -(-per_group // block)
    padded = np.zeros((groups, blocks * block, runs * run, kernel_h, kernel_w), weight.dtype)
    padded[:, :per_group, :in_channels] = weight.reshape(groups, per_group, in_channels, kernel_h, kernel_w)
    split = padded.reshape(groups * blocks, block, runs, run, kernel_h, kernel_w)
    return np.ascontiguousarray(split.transpose(0, 4, 5, 2, 1, 3))


def pack_im2col(weight: Array, block: int, run: int, runs: int) -> Array:
    """Pack convolution weights for inputs that were copied window by window (im2col).

    Args:
        weight: OIHW, shape (out_channels, in_channels, kernel_h, kernel_w).
        block: output channels of a block.
        run: elements of a window that lie together for each output channel.
        runs: runs for the whole window.

    Returns:
        Shape (ceil(out_channels / block), 1, 1, runs, block, run), a window in the order (row, column,
        channel).
    """
    flat = weight.transpose(0, 2, 3, 1).reshape(weight.shape[0], -1, 1, 1)
    return pack_conv2d(flat, block, run, runs)


def pack_depthwise(weight: Array, lanes: int) -> Array:
    """Pack the weights of a depthwise convolution, shape (channels, 1, kernel_h, kernel_w).

    Returns:
        Shape (kernel_h, kernel_w, ceil(channels / lanes), lanes), zeros beyond the last channel.
    """
    channels, _, kernel_h, kernel_w = weight.shape
    padded = np.zeros((-(-channels // lanes) * lanes, kernel_h, kernel_w), weight.dtype)
    padded[:channels] = weight[:, 0]
    return np.ascontiguousarray(padded.transpose(1, 2, 0).reshape(kernel_h, kernel_w, -1, lanes))


def pack_matrix(matrix: Array, block: int, run: int, runs: int) -> Array:
    """Pack the right factor of a matrix product, shape (depth, columns).

    Returns:
        Shape (ceil(columns / block), runs, block, run), zeros where blocks and runs are not full.
    """
    return pack_conv2d(matrix.T[:, :, None, None], block, run, runs)[:, 0, 0]
