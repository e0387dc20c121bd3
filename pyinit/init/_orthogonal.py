"""Random orthogonal matrices."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from pyinit import _core
from pyinit._device import fills as device_fills
from pyinit._random import stateless
from pyinit._random.orthogonal import (
    Job,
    checked_gain,
    fill_from_torchs_numbers,
    jobs,
    listed_gains,
    listed_sources,
    listed_tensors,
)
from pyinit._random.rng import Key, Source, for_torch, get_rng, take_key
from pyinit._scale.fans import checked_groups
from pyinit._sharding.dtensor import ranks_of
from pyinit._sharding.fills import empty_whole, fill_by_whole
from pyinit._sharding.find import sharded
from pyinit._sharding.sharded import Sharded
from pyinit._sharding.share import Made, cost_of, fill_made
from pyinit._torch.eager import eager
from pyinit._torch.original import original
from pyinit._torch.placement import refuse_distributed, refuse_partitioned
from pyinit._torch.views import (
    centre_of,
    may_share_memory,
    refuse_inference,
    view_of,
    writable_view,
)
from pyinit.init import _routes
from pyinit.init._patterns import copy_to_tap
from pyinit.init._routes import fill_in_memory, fills, increment_version, threads


@fills
def orthogonal_(
    tensor: Tensor, gain: float = 1, generator: Source = None, *, groups: int = 1
) -> Tensor:
    r"""Fill with a (semi-)orthogonal matrix, drawn uniformly (by the Haar measure) among all of them.

    float16 and bfloat16 are computed in float32 and rounded once.

    Args:
        tensor: a tensor of at least 2 dimensions, (out, in, *kernel); those after the first count
            as one
        gain: a factor, finite (with torch's own numbers it may be any factor)
        generator: the ``torch.Generator`` to draw the key from (default: torch's own), or a key of
            ``torch.func._random``
        groups: the convolution's groups; they must divide dim 0. Each gets a matrix of its own

    Returns:
        ``tensor``.

    Raises:
        ValueError: for fewer than 2 dimensions, a gain that is not finite, or groups that do not
            divide dim 0.
        TypeError: for a DTensor, with torch's own numbers.

    References:
        Saxe et al. (2014), `Exact solutions to the nonlinear dynamics of learning in deep linear
        neural networks`. Stewart (1980), `The efficient generation of random orthogonal matrices
        with an application to condition estimators`. Mezzadri (2007), `How to generate random
        matrices from the classical compact groups`.

    Example:
        >>> import torch, pyinit
        >>> weight = pyinit.orthogonal_(torch.empty(3, 5), gain=2.0)
        >>> torch.allclose(weight @ weight.t(), 4 * torch.eye(3), atol=1e-5)
        True
    """
    view = writable_view(tensor)
    if view is None:
        refuse_partitioned("tensor", tensor)
    if (groups.__class__ is not int or groups != 1) and tensor.dim() >= 2:
        checked_groups(groups, tensor.shape[0])
    if view is not None and len(view.shape) >= 2 and 0 not in view.shape:
        if get_rng() != "torch":
            factor = checked_gain(gain, view)
            key = take_key(generator)
            if key is not None:
                _core.fill_orthogonal(jobs(view, factor, key, groups), threads())
                increment_version((tensor,))
                return tensor if factor is not None else _multiply_(tensor, gain)
        elif not _routes.differs_in_torch(orthogonal_) and fill_from_torchs_numbers(
            tensor, view, gain, generator, groups
        ):
            return tensor
    elif (view is None and device_fills.orthogonal(tensor, gain, generator, groups)) or (
        view is None
        and get_rng() == "philox"
        and fill_by_whole(
            tensor, lambda whole: orthogonal_(whole, gain, generator, groups=groups), generator
        )
    ):
        return tensor
    return _orthogonal_by_torch(tensor, gain, for_torch(generator, tensor), groups)


def _orthogonal_by_torch(
    tensor: Tensor, gain: float, generator: torch.Generator | None, groups: int
) -> Tensor:
    refuse_distributed("tensor", tensor)
    if groups == 1 or tensor.dim() < 2:
        return _routes.by_torch(original.orthogonal_, tensor, gain, generator)
    if tensor.numel() == 0 or tensor.is_meta:
        return tensor
    refuse_inference(tensor)
    rows, *others = tensor.size(0) // groups, *tensor.shape[1:]
    with torch.no_grad():
        parts = [
            _routes.by_torch(original.orthogonal_, tensor.new_empty((rows, *others)), 1, generator)
            for _ in range(groups)
        ]
        return tensor.copy_(_multiply_(torch.cat(parts), gain))


def _multiply_(tensor: Tensor, factor: Any) -> Tensor:
    with torch.no_grad():
        return tensor.mul_(factor)


@eager
def orthogonal_many_(
    tensors: Iterable[Tensor], gain: float | Iterable[float] = 1, generator: Source = None
) -> list[Tensor]:
    r"""Fill each of many tensors as ``orthogonal_`` does, in one call.

    The values are those of ``orthogonal_`` called on one tensor after the other. Small matrices are
    made at the same time, each by one thread.

    Args:
        tensors: tensors or arrays of at least 2 dimensions, of any shapes and dtypes, in any order
        gain: a finite factor, or one for each tensor
        generator: the ``torch.Generator`` to draw the keys from, one for each tensor in turn
            (default: torch's own)

    Returns:
        A list of the tensors.

    Raises:
        TypeError: if ``tensors`` holds anything but tensors and arrays, is a tensor or an array itself,
            or holds a DTensor, with torch's own numbers.
        ValueError: if there are not as many gains as tensors, for a tensor of fewer than 2
            dimensions, or a gain that is not finite.

    References:
        The papers are those of ``orthogonal_``.

    Example:
        >>> import torch, pyinit
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 4))
        >>> weights = pyinit.orthogonal_many_([layer.weight for layer in model], gain=[2**0.5, 1])
        >>> [round(torch.linalg.matrix_norm(weight, 2).item(), 3) for weight in weights]
        [1.414, 1.0]
    """
    given, matrices = listed_tensors(tensors)
    gains = listed_gains(gain, len(matrices))
    sources = listed_sources(generator, matrices)
    stateless.refuse_other_numbers(original.orthogonal_, *matrices)
    if device_fills.orthogonal_many(matrices, gains, sources):
        return given
    views = [writable_view(tensor) for tensor in matrices]
    is_native = get_rng() != "torch"
    parts = [
        sharded(t) if is_native and v is None else None
        for t, v in zip(matrices, views, strict=True)
    ]
    factors: list[float | None] = []
    for i, (tensor, one, view, part) in enumerate(zip(matrices, gains, views, parts, strict=True)):
        if is_native and view is not None:
            factors.append(checked_gain(one, view))
        else:
            factors.append(None)
            refuse_partitioned(f"tensors[{i}]", tensor)
            if part is None:
                _refuse_as_torch(f"tensors[{i}]", tensor, one)
            else:
                checked_gain(one, view_of(torch.empty((1, 1), dtype=tensor.dtype, device="cpu")))
    if not is_native or may_share_memory(filter(None, views)):
        for tensor, one, source in zip(matrices, gains, sources, strict=True):
            _fill_alone(tensor, one, source)
        return given

    listed: list[Job] = []
    filled: list[Tensor] = []
    made: list[Made] = []
    for tensor, one, source, view, factor, part in zip(
        matrices, gains, sources, views, factors, parts, strict=True
    ):
        if part is not None and not tensor.is_meta:
            made.append(_made(tensor, part, one, source))
            continue
        is_ready = view is not None and factor is not None and 0 not in view.shape
        key = take_key(source) if is_ready else None
        if view is not None and key is not None:
            listed += jobs(view, factor, key, 1)
            filled.append(tensor)
        else:  # it may share memory with those before
            _fill_orthogonal(listed, filled)
            listed, filled = [], []
            _fill_alone(tensor, one, source)
    _fill_orthogonal(listed, filled)
    fill_made(made)
    return given


def _made(tensor: Tensor, part: Sharded, gain: Any, source: Source) -> Made:
    """A matrix that is spread over processes, which share the work with that of other such ones."""
    key = take_key(source) if 0 not in part.shape else None
    drawn_from = source if key is None else Key(*key)

    def make() -> Tensor:
        whole = empty_whole(tensor, part)
        return orthogonal_(whole, gain, drawn_from)

    return Made(tensor, part, cost_of(part.shape), make, ranks_of(tensor))


def _fill_alone(tensor: Tensor, gain: float, source: Source) -> None:
    fill_in_memory(lambda one: orthogonal_(one, gain, source), tensor)


def _fill_orthogonal(listed: list[Job], tensors: list[Tensor]) -> None:
    _core.fill_orthogonal(listed, threads())
    increment_version(tuple(tensors))


def _refuse_as_torch(name: str, tensor: Tensor, gain: float) -> None:
    """Raise what torch would raise for such a tensor and gain, without writing or drawing anything."""
    refuse_distributed(name, tensor)
    refuse_inference(tensor)
    if tensor.numel() == 0 or tensor.is_meta:
        return
    if tensor.layout is torch.strided and _is_expanded(tensor):
        raise ValueError(
            f"{name} must not have elements that share memory, got strides {tensor.stride()}"
        )
    alike = tensor.new_empty((1, 1))
    _routes.by_torch(original.orthogonal_, alike, gain, torch.Generator(tensor.device))


def _is_expanded(tensor: Tensor) -> bool:
    sizes = zip(tensor.shape, tensor.stride(), strict=True)
    return any(size > 1 and stride == 0 for size, stride in sizes)


@fills
def delta_orthogonal_(
    tensor: Tensor, gain: float = 1, generator: Source = None, *, groups: int = 1
) -> Tensor:
    """Fill the weight of a convolution with zeros but for an orthogonal matrix at its centre tap.

    A circular convolution with such a weight keeps the norm of its input. Of the two middle taps of
    an even size, the matrix takes the first: the centre tap is (size - 1) // 2, as in Xiao's code and in
    JAX. Padding "same", in torch as in TensorFlow and JAX, puts this tap on the output's own pixel,
    so images stay in their place however many layers they pass. ``dirac_`` and ``hadamard_`` have
    theirs at size // 2, as torch's ``dirac_`` has.

    Args:
        tensor: a tensor of 3, 4 or 5 dimensions, (out, in/groups, *kernel), with out >= in. The
            matrix's columns are orthonormal. It is the one that ``orthogonal_`` makes for the shape
            (out, in/groups)
        gain: a factor, finite (with torch's own numbers it may be any factor)
        generator: the ``torch.Generator`` to draw the key from (default: torch's own), or a key of
            ``torch.func._random``
        groups: the convolution's groups; they must divide dim 0. Each gets a matrix of its own

    Returns:
        ``tensor``.

    Raises:
        ValueError: for another number of dimensions, out < in, a gain that is not finite, or groups
            that do not divide dim 0.
        TypeError: for a DTensor, with torch's own numbers.

    References:
        Xiao et al. (2018), `Dynamical isometry and a mean field theory of CNNs: how to train
        10,000-layer vanilla convolutional neural networks`.

    Example:
        >>> import torch, pyinit
        >>> layer = torch.nn.Conv2d(8, 8, 3, padding=1, padding_mode="circular", bias=False)
        >>> _ = pyinit.delta_orthogonal_(layer.weight)
        >>> image = torch.randn(1, 8, 16, 16)
        >>> torch.allclose(layer(image).norm(), image.norm())
        True
    """
    if tensor.dim() not in (3, 4, 5):
        refuse_partitioned("tensor", tensor)
        raise ValueError(f"tensor must have 3, 4 or 5 dimensions, got {tensor.dim()}")
    rows, columns = tensor.shape[0] // checked_groups(groups, tensor.shape[0]), tensor.shape[1]
    if rows < columns:
        raise ValueError(
            "tensor must have at least as many output as input channels"
            f"{'' if groups == 1 else ' in each group'}, got {rows} < {columns}"
        )
    if tensor.numel() == 0 or tensor.is_meta:
        return tensor
    view = writable_view(tensor)
    if view is not None and get_rng() != "torch":
        centre = centre_of(view)
        factor = checked_gain(gain, centre)
        key = take_key(generator) if factor is not None else None
        if key is not None:
            _core.fill_constant(view, 0.0, threads())
            _core.fill_orthogonal(jobs(centre, factor, key, groups), threads())
            increment_version((tensor,))
            return tensor
    elif (
        view is None
        and get_rng() == "philox"
        and fill_by_whole(
            tensor,
            lambda whole: delta_orthogonal_(whole, gain, generator, groups=groups),
            generator,
        )
    ):
        return tensor
    refuse_distributed("tensor", tensor)
    refuse_inference(tensor)
    with torch.no_grad():
        matrix = tensor.new_empty((groups * rows, columns))
        tap = tuple((size - 1) // 2 for size in tensor.shape[2:])
        return copy_to_tap(tensor, orthogonal_(matrix, gain, generator, groups=groups), tap)
