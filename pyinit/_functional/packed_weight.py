"""Weights of convolutions in the order in which kernels read them, for calls without gradients."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pyinit import _core
from pyinit._functional.compute import PackedView
from pyinit._functional.geometry import IMAGE, RESULT, Plan
from pyinit._torch.views import View


class PackedWeight:
    """A weight that is packed once for many calls of ``conv1d``, ``conv2d`` or ``conv3d``.

    Make one by ``pack_weight``, which describes it.

    Args:
        weight: the tensor ``(output channels, channels / groups, ...)``.
        groups: the number of groups of the convolution.

    Attributes:
        weight: the tensor. A call after it has changed packs it again.
        groups: the number of groups, which must be that of each call.

    Raises:
        RuntimeError: in a call of a convolution that would need a gradient.
        ValueError: in a call of a convolution with another number of groups.

    References:
        Goto and van de Geijn (2008), Anatomy of high-performance matrix multiplication, describes
        packing.

    Example:
        >>> import torch, pyinit.functional as F
        >>> packed = F.pack_weight(torch.ones(4, 2, 3, 3))
        >>> packed
        PackedWeight([4, 2, 3, 3], dtype=torch.float32, groups=1)
        >>> packed.weight.shape, packed.groups
        (torch.Size([4, 2, 3, 3]), 1)
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
        """Raise if a call with these groups and these other tensors cannot use a packed weight.

        Args:
            groups: the number of groups of the call.
            others: its input and bias, for which no gradient may be asked.

        Raises:
            ValueError: if the weight was packed for another number of groups.
            RuntimeError: if a gradient would have to be computed.
        """
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
        """The weight as a kernel takes it, packed if the kernel reads it packed.

        Args:
            weight: where the tensor lies now.
            plan: the plan of the call.
        """
        packing = _packing(weight, plan)
        if packing == 0:
            return weight
        threads = torch.get_num_threads()
        # Only the content tells of a change: versions do not count every write, and another tensor
        # may get an address that was freed.
        digest = _core.digest(weight, threads)
        if digest is None:
            return weight
        made_from = digest, packing, weight.dtype, weight.shape, weight.strides
        packed = self._packed
        if packed is None or packed[0] != made_from:
            panels = _core.PackedWeight(weight, self.groups, threads, packing)
            self._packed = packed = made_from, panels
        return weight, packed[1]


def _packing(weight: View, plan: Plan) -> int:
    """How the kernel of a call reads its weight; 0 is as it is."""
    (shapes, _, stride, padding, dilation, groups), strides = plan
    image, result = (View((0, weight.dtype, shapes[i], strides[i])) for i in (IMAGE, RESULT))
    return _core.packing(image, weight, result, stride, padding, dilation, groups)


def pack_weight(weight: Tensor, groups: int = 1) -> PackedWeight:
    """Keep a weight in the order in which kernels read it, for many calls without gradients.

    Where the result is channels_last, kernels read weights in another order than torch keeps them in,
    and otherwise bring them into that order in every call. The first such call with the returned
    weight packs it, and so does the first one after the tensor has changed, in whatever way: each
    call reads the tensor through to see whether it has. Results are those of the tensor, bit for bit.

    Args:
        weight: ``(output channels, channels / groups, ...)``, with one to three dimensions of taps,
            on any device and of any dtype. It is kept, not copied. Calls that go to torch, or to
            kernels that read weights as they are, use it as it is.
        groups: the number of groups of the convolution.

    Returns:
        A ``PackedWeight``, to be passed in the place of the weight.

    Raises:
        TypeError: if ``weight`` is no tensor, or ``groups`` no integer.
        ValueError: if ``weight`` has another number of dimensions, or ``groups`` does not divide its
            output channels.

    References:
        Goto and van de Geijn (2008), Anatomy of high-performance matrix multiplication, describes
        packing.

    Example:
        >>> import torch, pyinit.functional as F
        >>> x = torch.randn(1, 8, 7, 7).to(memory_format=torch.channels_last)
        >>> weight = torch.randn(32, 8, 3, 3)
        >>> packed = F.pack_weight(weight)
        >>> with torch.inference_mode():
        ...     torch.equal(F.conv2d(x, packed, padding=1), F.conv2d(x, weight, padding=1))
        True
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
