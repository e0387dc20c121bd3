"""The operators in terms of torch's own, for exporters: ``torch.export`` and ``torch.onnx``."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import statically_known_true

from pyinit._functional.geometry import IMAGE, RESULT, WEIGHT

_aten = torch.ops.aten
_Numbers: TypeAlias = Sequence[Any]
"""An integer for each dimension, which may be a symbol."""


def _convolution(image: Tensor, weight: Tensor, size: _Numbers, *window: Any) -> Tensor:
    stride, padding, dilation, groups, _ = window
    image, padding = _evenly_padded(image, weight.shape[2:], size, stride, padding, dilation)
    unused = [0] * len(size)
    out: Tensor = _aten.convolution(
        image, weight, None, stride, padding, dilation, False, unused, groups
    )
    return out


def _convolution_transposed(result: Tensor, weight: Tensor, size: _Numbers, *window: Any) -> Tensor:
    stride, padding, dilation, groups, _ = window
    extents = [
        (n - 1) * s + d * (k - 1) + 1
        for n, s, d, k in zip(result.shape[2:], stride, dilation, weight.shape[2:], strict=True)
    ]
    behind = [n + 2 * p - e for n, p, e in zip(size, padding, extents, strict=True)]
    is_even = not any(
        statically_known_true(b < 0) or statically_known_true(b >= max(s, d))
        for b, s, d in zip(behind, stride, dilation, strict=True)
    )
    numbers = (padding, behind) if is_even else ([0] * len(size), [0] * len(size))
    image: Tensor = _aten.convolution(
        result, weight, None, stride, numbers[0], dilation, True, numbers[1], groups
    )
    if is_even:
        return image
    edges = [(-p, n + p - e) for n, p, e in zip(size, padding, extents, strict=True)]
    return _padded(image, edges)


def _convolution_weight(image: Tensor, result: Tensor, size: _Numbers, *window: Any) -> Tensor:
    stride, padding, dilation, groups, _ = window
    image, padding = _evenly_padded(image, size, result.shape[2:], stride, padding, dilation)
    weight = image.new_empty(result.shape[1], image.shape[1] // groups, *size)
    unused = [0] * len(size)
    _, out, _ = _aten.convolution_backward(
        *(result, image, weight, None, stride, padding, dilation, False, unused, groups),
        [False, True, False],
    )
    made: Tensor = out
    return made


def _evenly_padded(
    image: Tensor,
    kernel: _Numbers,
    size: _Numbers,
    stride: _Numbers,
    padding: _Numbers,
    dilation: _Numbers,
) -> tuple[Tensor, _Numbers]:
    """An image, and the padding on both sides of it that gives a result of a size.

    Where the two sides need different padding, the image gets it here. Sizes that are symbols fit the
    same padding, unless they are known not to.
    """
    edges = [
        (p, (r - 1) * s + d * (k - 1) + 1 - n - p)
        for r, s, d, k, n, p in zip(
            size, stride, dilation, kernel, image.shape[2:], padding, strict=True
        )
    ]
    if any(
        statically_known_true(back > front) or statically_known_true(back <= front - s)
        for (front, back), s in zip(edges, stride, strict=True)
    ):
        return _padded(image, edges), [0] * len(edges)
    return image, padding


def _padded(image: Tensor, edges: Sequence[tuple[Any, Any]]) -> Tensor:
    """An image with zeros in front of and behind each dimension; negative numbers cut pixels off."""
    numbers = [number for edge in reversed(edges) for number in edge]
    padded: Tensor = _aten.constant_pad_nd(image, numbers, 0.0)
    return padded


DECOMPOSITIONS: dict[int, Callable[..., Tensor]] = {
    IMAGE: _convolution_transposed,
    WEIGHT: _convolution_weight,
    RESULT: _convolution,
}
"""By target: the same arguments, and to within rounding the same result, as the operator's."""
