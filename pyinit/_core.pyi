"""The extension: kernels over plain memory. No torch, no user semantics.

Every ``fill_*`` writes a target, the ``View`` of a tensor. The value of an element depends on ``key`` (key
and stream) and on the element's logical row-major index alone. With ``whole`` and ``start`` the target
is the block of a larger logical tensor of shape ``whole`` whose first element stands at ``start``.
``threads`` is an upper bound. Nothing is checked that could not crash: that is Python's part.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

@final
class View(tuple[int, int, tuple[int, ...], tuple[int, ...]]):
    """Where a tensor lies in memory; made of a tuple of its four fields."""

    def __new__(cls, fields: tuple[int, int, tuple[int, ...], tuple[int, ...]], /) -> View: ...
    @property
    def address(self) -> int:
        """Of the first element."""

    @property
    def dtype(self) -> int:
        """``FLOAT16``, ``BFLOAT16``, ``FLOAT32`` or ``FLOAT64``."""

    @property
    def shape(self) -> tuple[int, ...]:
        """A size for each dimension."""

    @property
    def strides(self) -> tuple[int, ...]:
        """The distance, in elements, along each dimension."""

FLOAT16: int
BFLOAT16: int
FLOAT32: int
FLOAT64: int
TORCH_STATE_BYTES: int
TORCH_ARITHMETICS: int
TORCH_FUNC_ARITHMETICS: int

def isa() -> str: ...
def available_isas() -> list[str]: ...
def set_isa(name: str) -> None: ...
def compiler() -> str: ...
def openmp_runtime() -> str: ...
def set_threads_at_any_loss(are_used: bool) -> None:
    """For tests: whether threads are used even where the last parallel regions lost time by them."""

class ExpectedLoss:
    """What the next parallel region is expected to lose by its threads, in nanoseconds."""

    def at(self, now: int) -> int: ...
    def add(self, loss: int, now: int) -> None: ...

def containers_of(
    namespaces: list[dict[str, object]], ids: Iterable[int]
) -> list[dict[Any, Any] | list[Any] | set[Any]]:
    """Those dicts, and the dicts, lists and sets that are values in them, that hold one of the objects
    with these identities: as a value, key or member. Subclasses are not looked into."""

def method_of(
    type: type,
    original: Callable[..., Any],
    large: Callable[..., Any],
    small: int,
    plain: type,
    also_plain: type,
    /,
) -> Any:
    """A method of ``type`` in the place of ``original``, which it calls for tensors of other types than
    the two plain ones, and for those of up to ``small`` elements. Others go to ``large``. None if the
    original is no method of C, or if two such methods were made already."""

def set_exchange_api(capsule: object) -> bool:
    """Take tensors through DLPack's C exchange interface; False if its version is another."""

def dlpack_memory(tensor: object, /) -> View | None:
    """Where a tensor lies; None where it is no memory of the CPU that a kernel can read."""

def dlpack_target(tensor: object, /) -> View | None:
    """Where a fill may write, with dense memory as one dimension; None where it may not."""

def non_overlapping(shape: tuple[int, ...], strides: tuple[int, ...], /) -> bool: ...
def fill_uniform(
    target: View,
    low: float,
    high: float,
    key: tuple[int, int],
    threads: int,
    whole: tuple[int, ...] | None = None,
    start: tuple[int, ...] | None = None,
    /,
) -> None: ...
def fill_normal(
    target: View,
    mean: float,
    std: float,
    key: tuple[int, int],
    threads: int,
    whole: tuple[int, ...] | None = None,
    start: tuple[int, ...] | None = None,
    /,
) -> None: ...
def fill_trunc_normal(
    target: View,
    mean: float,
    std: float,
    low: float,
    high: float,
    key: tuple[int, int],
    threads: int,
    whole: tuple[int, ...] | None = None,
    start: tuple[int, ...] | None = None,
    /,
) -> None: ...
def fill_trunc_normal_v1(
    target: View,
    mean: float,
    std: float,
    low: float,
    high: float,
    key: tuple[int, int],
    threads: int,
    whole: tuple[int, ...] | None = None,
    start: tuple[int, ...] | None = None,
    /,
) -> None: ...
def fill_bernoulli(
    target: View,
    probability: float,
    key: tuple[int, int],
    threads: int,
    whole: tuple[int, ...] | None = None,
    start: tuple[int, ...] | None = None,
    /,
) -> None: ...
def fill_constant(
    target: View,
    value: float,
    threads: int,
    /,
) -> None: ...
def fill_dirac(
    target: View,
    groups: int,
    threads: int,
    /,
) -> None: ...
def fill_sparse(
    target: View,
    zeros: int,
    std: float,
    key: tuple[int, int],
    threads: int,
    /,
) -> None: ...
def fill_orthogonal(
    matrices: list[
        tuple[View, float, tuple[int, int], tuple[int, ...] | None, tuple[int, ...] | None]
    ],
    threads: int,
    /,
) -> None:
    """Each matrix is (target, gain, key, whole, start): the first dimension against all others."""

def fill_orthonormalized(target: View, matrix: int, gain: float, threads: int, /) -> None:
    """gain times the orthonormal factor of the dense matrix at the address ``matrix``.

    Its rows are the target's first dimension; where it is wide, both are taken for their transposes.
    It may stand in the target's own memory.
    """

def fill_many(
    fills: list[
        tuple[
            View,
            int,
            tuple[float, float, float, float],
            tuple[int, int],
            tuple[int, ...] | None,
            tuple[int, ...] | None,
        ]
    ],
    threads: int,
    /,
) -> list[tuple[float, float, float, float] | None]:
    """Each fill is (target, distribution, parameters, key, whole, start); no two targets share an element.

    Distributions are 0 constant (value), 1 uniform (low, high), 2 normal (mean, std), 3 truncated
    normal (mean, std, low, high), 5 that of stream version 1. Returns what ``measure_many`` does of the targets, to rounding.
    """

def measure_many(
    targets: list[View], threads: int, /
) -> list[tuple[float, float, float, float] | None]:
    """Mean, standard deviation (of all elements), minimum and maximum; None of no elements.

    All are NaN where an element is not finite, or squares overflow.
    """

def describe_many(
    targets: list[View], bounds: list[tuple[float, float]], out: View, threads: int, /
) -> None:
    """Statistics of each target, as a row of 11 doubles in the dense ``out``.

    Count; mean; the sums of the second, third and fourth powers of distances from the mean; minimum
    and maximum; the numbers of zeros, of values that are not finite, of values at or below the lower
    bound, and of values at or above the upper one. What is no count is NaN where a value is not finite.
    """

def describe_channels(
    target: View,
    samples: int,
    channel: int,
    low: float,
    high: float,
    out: View,
    threads: int,
    /,
) -> float:
    """The same of each index of dimension ``channel``; the sum of the variances of all units.

    The first ``samples`` dimensions number the samples, and the others the units.
    """

def copy_checked(source: int, target: View, threads: int, /) -> bool:
    """Copies from the address ``source`` to a dense target of the same layout; whether all is finite."""

def digest(source: View, threads: int, /) -> int | None:
    """64 bits that tell whether memory still holds what it held; None where elements do not lie side by side.

    The same for the same bytes, whatever the instruction set and threads.
    """

def is_dense(shape: tuple[int, ...], strides: tuple[int, ...], /) -> bool:
    """Whether the elements, in some order, lie side by side."""

def torch_state_is_known(state: int, /) -> bool:
    """Whether the bytes at ``state`` are a generator's state of the layout known here.

    The functions below take two addresses, of the state to draw from and of the place for the state
    after it. They answer False, with nothing written there, where the state is not known or the fill
    has no end.
    """

def is_same_state(one: int, other: int, /) -> bool: ...
def torch_uniform(
    target: View,
    low: float,
    high: float,
    states: tuple[int, int],
    arithmetic: int,
    threads: int,
    /,
) -> bool: ...
def torch_normal(
    target: View,
    mean: float,
    std: float,
    states: tuple[int, int],
    arithmetic: int,
    threads: int,
    /,
) -> bool: ...
def torch_trunc_normal(
    target: View,
    mean: float,
    std: float,
    low: float,
    high: float,
    states: tuple[int, int],
    arithmetic: int,
    threads: int,
    /,
) -> bool: ...
def torch_reject_trunc_normal(
    target: View,
    mean: float,
    std: float,
    low: float,
    high: float,
    log_peak: float,
    states: tuple[int, int],
    arithmetic: int,
    log: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    threads: int,
    /,
) -> bool: ...
def torch_zero_rows(target: View, zeros: int, states: tuple[int, int], threads: int, /) -> bool: ...
def torch_func_uniform(
    target: View,
    low: float,
    high: float,
    key: tuple[int, int],
    arithmetic: int,
    threads: int,
    whole: tuple[int, ...] | None = None,
    start: tuple[int, ...] | None = None,
    /,
) -> None:
    """Fills with the numbers of torch.func._random, from its key (seed, offset)."""

def torch_func_normal(
    target: View,
    mean: float,
    std: float,
    key: tuple[int, int],
    arithmetic: int,
    threads: int,
    whole: tuple[int, ...] | None = None,
    start: tuple[int, ...] | None = None,
    /,
) -> None: ...
def torch_func_matches_libm() -> bool:
    """Whether the vectors' log, sin and cos are the C library's, on numbers all over their ranges."""

def gemm(a: View, b: View, c: View, alpha: float, beta: float, threads: int, /) -> None:
    """C = alpha A B + beta C: float32 or float64, matrices or batches of them (three dimensions).

    Each element is one chain of multiply-adds in order of k. Where beta is 0, C is not read.
    """

def activate(input: View, output: View, activation: int, parameter: float, threads: int, /) -> None:
    """The function of that code of each element; float32 or float64, any strides, in place or not."""

def activate_backward(
    grad: View,
    saved: View,
    output: View,
    activation: int,
    parameter: float,
    from_output: int,
    threads: int,
    /,
) -> None:
    """``grad`` times the derivative; ``saved`` is the function's output if ``from_output``, else its input."""

def activate_biased(
    input: View, bias: View, output: View, activation: int, parameter: float, /
) -> None:
    """f(x + bias) on the calling thread: a bias of no dimensions, or one for each of dense elements."""

def softmax(input: View, output: View, dim: int, is_log: int, threads: int, /) -> None:
    """Softmax or its logarithm along a dimension of contiguous tensors of one shape."""

def softmax_backward(
    grad: View, y: View, output: View, dim: int, is_log: int, threads: int, /
) -> None: ...
def im2col(
    input: View,
    columns: View,
    kernel: tuple[int, ...],
    places: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    threads: int,
    /,
) -> None:
    """Images (batch, channels, one to three dimensions) to (batch, channels times taps, places).

    float32 or float64. ``places`` counts the kernel's along each dimension.
    """

def col2im(
    columns: View,
    output: View,
    kernel: tuple[int, ...],
    places: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    threads: int,
    /,
) -> None:
    """The transposed map of ``im2col``: sums, from 0 on in the order of taps."""

class PackedWeight:
    """The weight of a convolution as kernels read it: 1 is panels of outputs side by side, 2 the points of Winograd's tiles."""

    def __init__(self, weight: View, groups: int, threads: int, packing: int) -> None: ...

def packing(
    input: View,
    weight: View,
    output: View,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
    /,
) -> int:
    """How ``convolve`` reads the weight in such a call: as it is, which is 0, or packed. Addresses do not matter."""

def set_winograd(is_used: bool) -> None:
    """Whether convolutions of 3 x 3 taps may be computed by Winograd's minimal filtering."""

def winograd() -> bool:
    """Whether they may."""

def convolve(
    input: View,
    weight: View | tuple[View, PackedWeight],
    bias: View | None,
    output: View,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
    activation: int,
    parameter: float,
    threads: int,
    /,
) -> None:
    """Images and filters of one to three spatial dimensions; padding is that in front.

    A packed weight comes with the one that it was made from. Its groups must be those of the call, or it is not read.
    Nothing but types and numbers of dimensions is checked.
    """

def convolve_transposed(
    input: View,
    weight: View,
    bias: View | None,
    output: View,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
    activation: int,
    parameter: float,
    threads: int,
    /,
) -> None:
    """The gradient of ``convolve`` by its input; ``weight`` and the numbers are convolve's."""

def convolve_weight_gradient(
    input: View,
    output: View,
    weight: View,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
    threads: int,
    /,
) -> None:
    """Fills ``weight`` with the gradient of ``convolve`` by it; ``output`` is the gradient by that."""

def sum_channels(input: View, sums: View, threads: int, /) -> None: ...
def multiply_adds(dtype: int, rounds: int) -> int:
    """Does as many multiply-adds as it returns, as fast as one thread can."""

def philox4x32(counter: Sequence[int], key: Sequence[int]) -> tuple[int, int, int, int]: ...
def philox_words(key: int, stream: int, start: int, count: int) -> NDArray[np.uint32]: ...
def elementary(
    name: str, x: NDArray[np.float32] | NDArray[np.float64]
) -> NDArray[np.float32] | NDArray[np.float64]: ...
