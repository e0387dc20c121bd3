"""What a layer's weight multiplies: inputs of linear layers, patches of the inputs of convolutions."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pyinit.data_driven.affine import Affine
from pyinit.data_driven.over_ranks import joined_covariance

_AT_ONCE = 2**20  # elements of the patches that are there at a time

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def why_no_patches(affine: Affine) -> str | None:
    """Why a layer's weight does not multiply patches of its input, in words; None if it does."""
    module = affine.module
    is_own = affine.weight.site.leaf == "weight" and affine.weight.is_whole
    if not (is_own and isinstance(module, (nn.Linear, *CONVOLUTIONS))):
        return "it is neither a linear layer nor a convolution"
    if not isinstance(affine.input, Tensor):
        return "its input was given by name"
    return None


def is_finite(affine: Affine) -> bool:
    """Whether the squares of a layer's input are finite."""
    whole = torch.linalg.vector_norm(affine.input, dtype=torch.float64)
    is_so = bool((whole * whole).isfinite())
    return affine.ranks.all(f"{affine.name}, whether its input is finite", is_so)


def padded(module: Any, images: Tensor) -> Tensor:
    """A convolution's input with its padding."""
    around = module._reversed_padding_repeated_twice
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    return functional.pad(images, around, mode=mode)


class Patches:
    """What a layer's weight multiplies, as rows of a matrix for each group of a convolution.

    groups: the number of groups
    size: the length of a row
    count: the number of rows of a group
    """

    def __init__(self, affine: Affine) -> None:
        self._module: Any = affine.module
        self._input: Tensor = affine.input  # type: ignore[assignment]
        self.groups: int = getattr(self._module, "groups", 1)
        self.size = math.prod(affine.weight.site.shape[1:])
        self.count = affine.output.numel() // affine.channels
        self._ranks, self._name = affine.ranks, affine.name

    def blocks(self, group: int = 0) -> Iterator[Tensor]:
        """The rows of a group, some at a time, in float64."""
        if isinstance(self._module, nn.Linear):
            rows = self._input.reshape(-1, self.size)
            for some in torch.split(rows, max(1, _AT_ONCE // self.size)):
                yield some.double()
            return
        kernel = self._module.kernel_size
        images = self._input
        if images.dim() == len(kernel) + 1:
            images = images.unsqueeze(0)
        channels = images.shape[1] // self.groups
        images = images.narrow(1, group * channels, channels)
        each = math.prod(images.shape[1:]) * math.prod(kernel)
        for some in torch.split(images, max(1, _AT_ONCE // each)):
            yield self._unfolded(some.double())

    def components(self, group: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """The mean of a group's rows, and ``directions`` of their covariance, in float64."""
        if (
            self.count < self.size and not self._ranks.are_several
        ):  # the covariance would be larger than the rows
            rows = torch.cat(list(self.blocks(group)))
            mean = rows.mean(0)
            _, singular, vectors = torch.linalg.svd(rows - mean, full_matrices=False)
            return mean, *_chosen(singular.square() / len(rows), vectors, self._input.dtype)
        # Near the mean, so that little is lost by subtraction.
        middle = next(self.blocks(group)).mean(0)
        total, squares = torch.zeros_like(middle), middle.new_zeros(self.size, self.size)
        for rows in self.blocks(group):
            centred = rows - middle
            total += centred.sum(0)
            squares += centred.T @ centred
        mean = total / self.count
        covariance = squares / self.count - mean.outer(mean)
        what = f"{self._name}, inputs"
        _, mean, covariance = joined_covariance(
            self._ranks, what, self.count, mean + middle, covariance
        )
        return mean, *directions(covariance, self._input.dtype)

    def sample(self, group: int, count: int, generator: torch.Generator) -> Tensor:
        """Some of a group's rows at random, each at most once, on the CPU."""
        start, whole = self._ranks.before(f"{self._name}, number of inputs", self.count)
        chosen = torch.randperm(whole, generator=generator)[:count].sort().values
        found = []
        for rows in self.blocks(group):
            here = chosen[(chosen >= start) & (chosen < start + len(rows))] - start
            found.append(rows[here.to(rows.device)].cpu())
            start += len(rows)
        return self._ranks.rows(f"{self._name}, some inputs", torch.cat(found))

    def _unfolded(self, images: Tensor) -> Tensor:
        found = padded(self._module, images)
        module, dims = self._module, len(self._module.kernel_size)
        steps = zip(module.kernel_size, module.stride, module.dilation, strict=True)
        for dim, (size, stride, dilation) in enumerate(steps, 2):
            found = found.unfold(dim, (size - 1) * dilation + 1, stride)[..., ::dilation]
        places = range(2, 2 + dims)
        return found.permute(0, *places, 1, *range(2 + dims, 2 + 2 * dims)).reshape(-1, self.size)


def directions(covariance: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The eigenvalues of a covariance that are not 0 to the precision of a dtype, the largest first, and
    the eigenvectors as rows, whose largest element is positive."""
    values, vectors = torch.linalg.eigh(covariance)
    return _chosen(values.flip(0), vectors.T.flip(0), dtype)


def _chosen(values: Tensor, rows: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    least = values[0].clamp(min=0) * torch.finfo(dtype).eps ** 0.75
    is_there = values > least
    values, rows = values[is_there], rows[is_there]
    largest = rows.gather(1, rows.abs().argmax(1, keepdim=True))
    return values, rows * torch.where(largest < 0, -1.0, 1.0)
