"""Weights of convolutions kept in the order in which kernels read them, for calls without gradients."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pyinit import _core
from pyinit._functional.compute import RESULT, WEIGHT, PackedView, Plan
from pyinit._torch.views import View


class PackedWeight:
    """A weight that ``conv1d``, ``conv2d`` and ``conv3d`` take in its place; ``pack_weight`` makes them.

    Attributes:
        weight: the tensor it was made from, which counts: once it holds something else, it is packed again.
        groups: those of the convolution.
    """

    __slots__ = ("_packed", "groups", "weight")

    def __init__(self, weight: Tensor, groups: int) -> None:
        self.weight = weight
        self.groups = groups
        self._packed: tuple[tuple[Any, ...], _core.PackedWeight] | None = None

    def __repr__(self) -> str:
        shape, dtype = list(self.weight.shape), self.weight.dtype
        return f"PackedWeight({shape}, dtype={dtype}, groups={self.groups})"

    def __reduce__(self) -> tuple[Callable[..., "PackedWeight"], tuple[Any, ...]]:
        return pack_weight, (self.weight, self.groups)

    def check(self, groups: object, *others: object) -> None:
        """Raise what a call of so many groups with these other tensors has to."""
        if groups != self.groups:
            raise ValueError(f"groups: got {groups!r}, but weight was packed for {self.groups}")
        if torch.is_grad_enabled() and any(
            isinstance(x, Tensor) and x.requires_grad for x in (self.weight, *others)
        ):
            raise RuntimeError(
                "weight: a packed weight is for calls without gradients, but one was asked for; "
                "call it within torch.inference_mode() or torch.no_grad(), or pass weight.weight"
            )

    def view(self, weight: View, plan: Plan) -> View | PackedView:
        """What a kernel takes, ``weight`` being where the tensor lies now."""
        if plan.strides[RESULT][1] != 1 or plan.geometry.shapes[WEIGHT][1] == 1:
            return (
                weight  # is read as it is where pixels lie side by side, and of one channel a group
            )
        threads = torch.get_num_threads()
        # By what it holds: versions do not count every write, and memory that was freed comes back.
        digest = _core.digest(weight, threads)
        if digest is None:
            return weight
        made_from = digest, weight[1:]
        packed = self._packed
        if packed is None or packed[0] != made_from:
            panels = _core.PackedWeight(weight, self.groups, threads)
            self._packed = packed = made_from, panels
        return weight, packed[1]


def pack_weight(weight: Tensor, groups: int = 1) -> PackedWeight:
    """A weight for many calls of ``conv1d``, ``conv2d`` or ``conv3d`` without gradients.

    Where the result is channels_last, kernels read weights in another order than torch keeps them in, and otherwise
    put them in that order at every call. The first call of that kind packs, and so does the first one
    after the tensor has changed, in whatever way: each reads it through to see. The results have the
    bits that they have without it.

    Args:
        weight: ``(output channels, channels / groups, ...)`` with one to three dimensions of taps, any device and
            dtype. It is kept, and what does not go to pyinit's kernels uses it as it is.
        groups: those of the convolution.

    Raises:
        TypeError: for a weight that is no tensor, and groups that are no integer.
        ValueError: for a weight of another number of dimensions, and groups that do not divide its
            output channels.
    """
    if not isinstance(weight, Tensor):
        raise TypeError(f"weight: takes a tensor, got {type(weight).__name__}")
    if type(groups) is not int:
        raise TypeError(f"groups: takes an integer, got {groups!r}")
    if not 3 <= weight.dim() <= 5:
        raise ValueError(f"weight: takes 3 to 5 dimensions, got shape {list(weight.shape)}")
    if groups < 1 or weight.shape[0] % groups:
        raise ValueError(f"groups: takes a divisor of {weight.shape[0]} outputs, got {groups}")
    return PackedWeight(weight, groups)
