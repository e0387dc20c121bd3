"""Weights of a given pattern: identities, Hadamard matrices, random places of zeros."""

import math
import operator
from collections.abc import Sequence

import torch
from torch import Tensor

from pyinit import _core
from pyinit._device import fills as device_fills
from pyinit._random import torch_stream
from pyinit._random.distributions import NORMAL
from pyinit._random.rng import Source, for_torch, get_rng, take_key
from pyinit._sharding.fills import fill_by_whole
from pyinit._torch.original import original
from pyinit._torch.placement import refuse_distributed
from pyinit._torch.views import (
    LARGEST,
    refuse_inference,
    whole_shape,
    writable_flat_view,
    writable_view,
)
from pyinit.init import _routes
from pyinit.init._routes import as_floats, fills, increment_version, threads


@fills
def eye_(tensor: Tensor) -> Tensor:
    """Fill a matrix with ones on its diagonal and zeros elsewhere.

    Args:
        tensor: a tensor of 2 dimensions

    Returns:
        ``tensor``.

    Raises:
        ValueError: if it has another number of dimensions.
        TypeError: for a DTensor of integers or of complex numbers.

    Example:
        >>> import torch, pyinit
        >>> pyinit.eye_(torch.empty(2, 3))
        tensor([[1., 0., 0.],
                [0., 1., 0.]])
    """
    view = writable_view(tensor)
    if view is None or len(view.shape) != 2:
        if fill_by_whole(tensor, eye_):
            return tensor
        refuse_distributed("tensor", tensor)
        return _routes.by_torch(original.eye_, tensor)
    _core.fill_dirac(view, 1, threads())
    increment_version((tensor,))
    return tensor


@fills
def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """Fill the weight of a convolution so that it passes on as many channels as it can.

    In each group, output channel d is input channel d: its weight is 1 at the centre tap
    (size // 2) of input channel d, and 0 elsewhere.

    Args:
        tensor: a tensor of 3, 4 or 5 dimensions, (out, in/groups, *kernel)
        groups: the convolution's groups; they must divide ``out``

    Returns:
        ``tensor``.

    Raises:
        ValueError: for another number of dimensions, or groups that do not divide ``out``.
        TypeError: for a DTensor of integers or of complex numbers.

    References:
        Zagoruyko & Komodakis (2017), `DiracNets: training very deep neural networks without
        skip-connections`.

    Example:
        >>> import torch, pyinit
        >>> image = torch.randn(1, 4, 8, 8)
        >>> weight = pyinit.dirac_(torch.empty(4, 4, 3, 3))
        >>> torch.equal(torch.conv2d(image, weight, padding=1), image)
        True
    """
    view = writable_view(tensor)
    if view is None or len(view.shape) not in (3, 4, 5):
        if fill_by_whole(tensor, lambda whole: dirac_(whole, groups)):
            return tensor
        refuse_distributed("tensor", tensor)
        if _routes.is_unstrided(tensor):
            _routes.let_torch_refuse(original.dirac_, tensor, groups)
        return _routes.by_torch(original.dirac_, tensor, groups)
    shape = view.shape
    if shape[0] % groups or operator.index(groups) < 1 or 0 in shape:
        return _routes.by_torch(original.dirac_, tensor, groups)
    _core.fill_dirac(view, operator.index(groups), threads())
    increment_version((tensor,))
    return tensor


@fills
def hadamard_(tensor: Tensor) -> Tensor:
    """Fill with ZerO's weights: a (partial) identity, or a part of a Hadamard matrix where out > in.

    With m the least integer such that ``2**m >= out``, the weight for out > in is the
    upper left part of Sylvester's Hadamard matrix of size ``2**m``, divided by ``2**(m / 2)``;
    its columns are orthonormal where ``out`` is a power of two. Nothing in it is random.

    Args:
        tensor: a floating-point weight of 2 to 5 dimensions, (out, in, *kernel). A convolution's
            matrix stands at its centre tap (size // 2), with zeros around it

    Returns:
        ``tensor``.

    Raises:
        ValueError: for another number of dimensions.
        TypeError: if the dtype is not floating point.

    References:
        Zhao et al. (2022), `ZerO initialization: initializing neural networks with only zeros and
        ones`.

    Example:
        >>> import torch, pyinit
        >>> pyinit.hadamard_(torch.empty(4, 2))
        tensor([[ 0.5000,  0.5000],
                [ 0.5000, -0.5000],
                [ 0.5000,  0.5000],
                [ 0.5000, -0.5000]])
    """
    shape = whole_shape(tensor)
    if len(shape) not in (2, 3, 4, 5):
        raise ValueError(f"tensor must have 2 to 5 dimensions, got {len(shape)}")
    if not tensor.is_floating_point():
        raise TypeError(f"tensor must be of a floating-point dtype, got {tensor.dtype}")
    if 0 in shape or tensor.is_meta:
        return tensor
    rows, columns = shape[:2]
    if rows <= columns and writable_flat_view(tensor) is not None:
        return eye_(tensor) if tensor.dim() == 2 else dirac_(tensor)
    if fill_by_whole(tensor, hadamard_):
        return tensor
    refuse_distributed("tensor", tensor)
    refuse_inference(tensor)
    matrix = torch.empty((rows, columns), dtype=tensor.dtype, device=tensor.device)
    with torch.no_grad():
        centre = tuple(size // 2 for size in shape[2:])
        return copy_to_tap(tensor, eye_(matrix) if rows <= columns else _hadamard(matrix), centre)


def _hadamard(matrix: Tensor) -> Tensor:
    """Sylvester's construction, cut to the matrix's size. Each step doubles what is there."""
    rows = matrix.size(0)
    steps = (rows - 1).bit_length()
    matrix[0, 0] = 1.0 / math.sqrt(1 << steps)
    for size in (1 << step for step in range(steps)):
        below = matrix[size : 2 * size]
        right = matrix[:size, size : 2 * size]
        below[:, :size] = matrix[: len(below), :size]
        right.copy_(matrix[:size, : right.size(1)])
        below[:, size : 2 * size] = -right[: len(below)]
    return matrix


def copy_to_tap(weight: Tensor, matrix: Tensor, tap: Sequence[int]) -> Tensor:
    """Write a matrix (out, in) over a weight: at a tap of a convolution's kernel, with zeros around it."""
    sizes = weight.shape[2:]
    around = [
        zeros
        for at, n in reversed(list(zip(tap, sizes, strict=True)))
        for zeros in (at, n - at - 1)
    ]
    matrix = matrix.reshape(*matrix.shape, *(1 for _ in sizes))
    return weight.copy_(torch.nn.functional.pad(matrix, around))


@fills
def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01, generator: Source = None) -> Tensor:
    """Fill a matrix with normal numbers, and with the same count of zeros at random places in each column.

    Args:
        tensor: a tensor of 2 dimensions
        sparsity: the fraction of each column that is zero, rounded up to whole elements
        std: the standard deviation of the other elements, at least 0
        generator: the ``torch.Generator`` to draw the key from (default: torch's own), or a key of
            ``torch.func._random``; it governs
            both the numbers and the places of the zeros

    Returns:
        ``tensor``.

    Raises:
        ValueError: for another number of dimensions, or if ``sparsity`` is NaN.
        RuntimeError: if ``std`` is negative or NaN.
        TypeError: for a DTensor, with torch's own numbers.

    References:
        Martens (2010), `Deep learning via Hessian-free optimization`.

    Example:
        >>> import torch, pyinit
        >>> weight = pyinit.sparse_(torch.empty(10, 4), sparsity=0.7)
        >>> (weight == 0).sum(0)
        tensor([7, 7, 7, 7])
    """
    view = writable_view(tensor)
    if view is None and device_fills.has_kernels_for(tensor) and tensor.dim() == 2:
        zeros = _zeros_of(tensor.size(0), sparsity)
        if device_fills.sparse(tensor, zeros, next(as_floats(std)), generator):
            return tensor
    if view is None or len(view.shape) != 2:
        if get_rng() == "philox" and fill_by_whole(
            tensor, lambda whole: sparse_(whole, sparsity, std, generator), generator
        ):
            return tensor
        refuse_distributed("tensor", tensor)
        if _routes.is_unstrided(tensor):
            _routes.let_torch_refuse(original.sparse_, tensor, sparsity, std)
        return _sparse_by_torch(tensor, sparsity, std, generator)
    zeros = _zeros_of(view.shape[0], sparsity)
    (width,) = as_floats(std)
    if NORMAL.takes(LARGEST[view.dtype], 0.0, width):
        key = take_key(generator)
        if key is not None:
            _core.fill_sparse(view, zeros, width, key, threads())
            increment_version((tensor,))
            return tensor
        if torch_stream.sparse(tensor, zeros, width, generator):
            return tensor
    return _sparse_by_torch(tensor, sparsity, std, generator)


def _sparse_by_torch(tensor: Tensor, sparsity: float, std: float, generator: Source) -> Tensor:
    """What torch's function does; from a key, the places of the zeros follow, too, which torch draws from its own."""
    source = for_torch(generator, tensor)
    if source is generator or source is None or tensor.dim() != 2:
        return _routes.by_torch(original.sparse_, tensor, sparsity, std, source)
    return _routes.by_torch(_sparse_from, tensor, sparsity, std, source)


@torch.no_grad()
def _sparse_from(tensor: Tensor, sparsity: float, std: float, generator: torch.Generator) -> Tensor:
    rows, columns = tensor.shape
    zeros = math.ceil(sparsity * rows)
    tensor.normal_(0, std, generator=generator)
    for column in range(columns):
        places = torch.randperm(rows, generator=generator, device=generator.device)
        tensor[places[:zeros], column] = 0
    return tensor


def _zeros_of(rows: int, sparsity: float) -> int:
    """How many of a column's rows are zero. torch takes a slice of the rows, so too many are all of them."""
    return len(range(rows)[: math.ceil(sparsity * rows)])
