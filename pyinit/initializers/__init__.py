"""Initializers as values: what fills a parameter, with its arguments.

Each is a small frozen dataclass, registered by a name, that goes to a dictionary of plain values
and comes back from it. ``resolve`` says what it draws for a weight: blocks of rows, each filled by
one of the ``Drawn`` initializers, which call the function of ``pyinit.init`` of their name. All the
others are formulas over these.

A user's own: a frozen dataclass derived from ``Initializer``, with ``resolve``, decorated by
``register``.
"""

import dataclasses
import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from numbers import Real
from typing import Any, ClassVar, NamedTuple, TypeVar, get_args, get_origin

from torch import Tensor

import pyinit.init
from pyinit._random.rng import Source
from pyinit._scale.fans import fans, mean_fan
from pyinit._scale.gain import calculate_gain
from pyinit._torch.original import functional, original

_ROOT_2, _ROOT_3 = math.sqrt(2.0), math.sqrt(3.0)

# Standard deviation of the standard normal truncated to [-2, 2].
_TRUNCATED_STD = 0.87962566103423978


class Weight(NamedTuple):
    """What an initializer may know of a parameter: its shape, and how its layer uses it.

    ``transposed``: the inputs stand in dim 0, as in transposed convolutions and GPT-2's Conv1D.
    """

    shape: tuple[int, ...]
    groups: int = 1
    transposed: bool = False

    @property
    def fans(self) -> tuple[int, int]:
        """Fan in and fan out."""
        return fans(self.shape, self.groups, self.transposed)

    def rows(self, first: int, last: int) -> "Weight":
        return self._replace(shape=(last - first, *self.shape[1:]))


class Block(NamedTuple):
    """Rows of a parameter (all of it: None), what fills them, and whether it is to come after."""

    drawn: "Drawn"
    rows: tuple[int, int] | None = None
    wave: int = 0

    def of(self, tensor: Tensor) -> Tensor:
        """Its rows of a parameter."""
        return tensor if self.rows is None else tensor.detach()[slice(*self.rows)]


Blocks = tuple[Block, ...]


@dataclass(frozen=True)
class Initializer:
    """What fills a parameter."""

    name: ClassVar[str] = ""

    def resolve(self, weight: Weight) -> Blocks:
        """What it draws for such a weight.

        Raises:
            ValueError: if it cannot fill such a weight.
        """
        raise NotImplementedError

    def target_std(self, weight: Weight) -> float | None:
        """The standard deviation that it aims at; None where there is no single one."""
        blocks = self.resolve(weight)
        return blocks[0].drawn.target_std(weight) if len(blocks) == 1 else None

    def to_dict(self) -> dict[str, Any]:
        """The name and the arguments, as values that JSON and TOML have."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {"name": self.name} | {key: _plain(value) for key, value in fields.items()}

    def __str__(self) -> str:
        values = (
            f"{f.name}={_short(getattr(self, f.name))}"
            for f in dataclasses.fields(self)
            if getattr(self, f.name) != f.default
        )
        text = ", ".join(values)
        return f"{self.name}({text})" if text else self.name


_Class = TypeVar("_Class", bound=type[Initializer])
_REGISTRY: dict[str, type[Initializer]] = {}


def register(name: str) -> Callable[[_Class], _Class]:
    """Class decorator: makes an initializer known by ``name``, in rules, files and reports.

    Raises:
        ValueError: if another one has the name.
    """

    def add(cls: _Class) -> _Class:
        if name in _REGISTRY and _REGISTRY[name].__qualname__ != cls.__qualname__:
            raise ValueError(f"name {name!r} is taken by {_REGISTRY[name].__qualname__}")
        cls.name = name
        _REGISTRY[name] = cls
        return cls

    return add


def names() -> list[str]:
    """The names of all registered initializers."""
    return sorted(_REGISTRY)


def make(name: str, /, **arguments: Any) -> Initializer:
    """The initializer of that name.

    Raises:
        ValueError: for an unknown name, or arguments that it does not take.
    """
    cls = _REGISTRY.get(name)
    if cls is None:
        raise ValueError(f"unknown initializer {name!r}; {near(name, _REGISTRY)}")
    known = {f.name: f.type for f in dataclasses.fields(cls)}
    values = {key: _restored(value) for key, value in arguments.items()}
    for argument, value in values.items():
        if argument not in known:
            raise ValueError(
                f"initializer {name!r} does not take {argument!r}; it takes {', '.join(known) or 'none'}"
            )
        if not _fits(value, known[argument]):
            kind = getattr(known[argument], "__name__", known[argument])
            raise ValueError(f"initializer {name!r}: {argument} must be {kind}, got {value!r}")
    try:
        return cls(**values)
    except (TypeError, OverflowError) as error:
        raise ValueError(f"initializer {name!r}: {error}") from None


def from_dict(value: Mapping[str, Any]) -> Initializer:
    """What ``to_dict`` gave.

    Raises:
        ValueError: without a name, and as ``make``.
    """
    arguments = dict(value)
    name = arguments.pop("name", None)
    if not isinstance(name, str):
        raise ValueError(f"an initializer needs a name, got {dict(value)!r}")  # noqa: TRY004
    return make(name, **arguments)


def near(name: str, known: Mapping[str, Any]) -> str:
    """What to say after an unknown name."""
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return (
        f"did you mean {' or '.join(close)}?" if close else f"known are {', '.join(sorted(known))}"
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Initializer):
        return value.to_dict()
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and math.isinf(value):
        return _INFINITE[value]
    return value


# JSON has no infinite numbers.
_INFINITE = {math.inf: "inf", -math.inf: "-inf"}


def _restored(value: Any) -> Any:
    if isinstance(value, Mapping):
        return from_dict(value)
    if isinstance(value, (tuple, list)):
        return tuple(_restored(item) for item in value)
    return float(value) if value in _INFINITE.values() else value


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value from a file or a report is of the type that a field is annotated with."""
    if kind is float:
        return isinstance(value, Real) and not isinstance(value, bool)
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_fits(v, get_args(kind)[0]) for v in value)
    if get_args(kind):
        return any(_fits(value, one) for one in get_args(kind))
    # Annotations that are strings, or of other kinds, are their class's own to check.
    return not isinstance(kind, type) or isinstance(value, kind)


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_short, value)) + "]"
    return str(value)


# ---- What draws ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drawn(Initializer):
    """An initializer that a function of ``pyinit.init`` carries out.

    needs_key: whether it can draw from a ``Key`` alone, from no generator of torch's
    """

    function: ClassVar[str] = ""
    is_random: ClassVar[bool] = True
    needs_key: ClassVar[bool] = False

    def resolve(self, weight: Weight) -> Blocks:
        return (Block(self),)

    def arguments(self) -> dict[str, Any]:
        """The function's."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    def fill_(self, tensor: Tensor, source: Source) -> None:
        """Fill a tensor that the batch does not take."""
        generator = {"generator": source} if self.is_random else {}
        getattr(pyinit.init, self.function)(tensor, **self.arguments(), **generator)

    def fill_by_torch_(self, tensor: Tensor) -> None:
        """The same distribution by torch's own function, to compare with."""
        getattr(original, self.function)(tensor, **self.arguments())


def fill_by_torch_(tensor: Tensor, blocks: Blocks) -> None:
    """What an initializer resolved to, by torch's own functions, to compare with."""
    for block in blocks:
        block.drawn.fill_by_torch_(block.of(tensor))


@register("constant")
@dataclass(frozen=True)
class Constant(Drawn):
    """One value everywhere."""

    val: float
    function = "constant_"
    is_random = False

    def target_std(self, weight: Weight) -> float | None:
        return 0.0


@register("uniform")
@dataclass(frozen=True)
class Uniform(Drawn):
    """Uniform on [a, b)."""

    a: float = 0.0
    b: float = 1.0
    function = "uniform_"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.a) and math.isfinite(self.b) and self.a <= self.b):
            raise ValueError(f"a must be at most b, both finite, got a={self.a} and b={self.b}")

    def target_std(self, weight: Weight) -> float | None:
        return (self.b - self.a) / math.sqrt(12)


@register("normal")
@dataclass(frozen=True)
class Normal(Drawn):
    """Normal of that mean and standard deviation."""

    mean: float = 0.0
    std: float = 1.0
    function = "normal_"

    def __post_init__(self) -> None:
        _check_normal(self.mean, self.std)

    def target_std(self, weight: Weight) -> float | None:
        return self.std


def _check_normal(mean: float, std: float) -> None:
    if not (math.isfinite(mean) and math.isfinite(std) and std >= 0):
        raise ValueError(f"std must be at least 0, mean and std finite, got {mean=} and {std=}")


@register("trunc_normal")
@dataclass(frozen=True)
class TruncNormal(Drawn):
    """Normal of that mean and standard deviation, cut to [a, b]."""

    mean: float = 0.0
    std: float = 1.0
    a: float = -2.0
    b: float = 2.0
    function = "trunc_normal_"

    def __post_init__(self) -> None:
        _check_normal(self.mean, self.std)
        if not (self.std > 0 and self.a <= self.b):
            raise ValueError(
                f"std must be above 0 and a at most b, got std={self.std}, a={self.a}, b={self.b}"
            )

    def target_std(self, weight: Weight) -> float | None:
        ratio = _truncated_std((self.a - self.mean) / self.std, (self.b - self.mean) / self.std)
        return None if ratio is None else self.std * ratio


def _truncated_std(alpha: float, beta: float) -> float | None:
    """Of the standard normal cut to [alpha, beta]; None far in a tail (Johnson et al. 1994, 13.10)."""
    mass = (math.erf(beta / _ROOT_2) - math.erf(alpha / _ROOT_2)) / 2
    if mass < 1e-6:
        return None
    at_alpha, at_beta = _density(alpha), _density(beta)
    slope = (alpha * at_alpha if at_alpha else 0.0) - (beta * at_beta if at_beta else 0.0)
    return math.sqrt(max(0.0, 1 + slope / mass - ((at_alpha - at_beta) / mass) ** 2))


def _density(x: float) -> float:
    return math.exp(-x * x / 2) / math.sqrt(2 * math.pi) if abs(x) < 38 else 0.0


@dataclass(frozen=True)
class _Grouped(Drawn):
    """A matrix for each group of a convolution; ``groups``: None for the layer's own."""

    def resolve(self, weight: Weight) -> Blocks:
        self.check(weight)
        if getattr(self, "groups", None) is None:
            return (Block(dataclasses.replace(self, groups=weight.groups)),)  # type: ignore[call-arg]
        return (Block(self),)

    def check(self, weight: Weight) -> None:
        raise NotImplementedError


def _check_dims(what: Initializer, weight: Weight, least: int, most: int | None) -> None:
    dims = len(weight.shape)
    if dims < least or (most is not None and dims > most):
        wanted = f"{least} to {most}" if most is not None else f"at least {least}"
        raise ValueError(f"{what.name} needs {wanted} dimensions, got shape {tuple(weight.shape)}")


@register("orthogonal")
@dataclass(frozen=True)
class Orthogonal(_Grouped):
    """``gain`` times a Haar-random (semi-)orthogonal matrix (Saxe et al. 2014)."""

    gain: float = 1.0
    groups: int | None = None
    function = "orthogonal_"

    def check(self, weight: Weight) -> None:
        _check_dims(self, weight, 2, None)

    def fill_by_torch_(self, tensor: Tensor) -> None:
        original.orthogonal_(tensor, self.gain)

    def target_std(self, weight: Weight) -> float | None:
        rows, columns = (
            weight.shape[0] // (self.groups or weight.groups),
            math.prod(weight.shape[1:]),
        )
        return self.gain / math.sqrt(max(rows, columns)) if rows and columns else None


@register("delta_orthogonal")
@dataclass(frozen=True)
class DeltaOrthogonal(_Grouped):
    """Zeros but for an orthogonal matrix at the centre tap (Xiao et al. 2018)."""

    gain: float = 1.0
    groups: int | None = None
    function = "delta_orthogonal_"

    def check(self, weight: Weight) -> None:
        _check_dims(self, weight, 3, 5)
        rows = weight.shape[0] // (self.groups or weight.groups)
        if rows < weight.shape[1]:
            raise ValueError(
                "delta_orthogonal needs at least as many outputs as inputs in each group, "
                f"got shape {tuple(weight.shape)} in {self.groups or weight.groups} groups"
            )

    def fill_by_torch_(self, tensor: Tensor) -> None:
        raise ValueError("torch has no delta_orthogonal_")

    def target_std(self, weight: Weight) -> float | None:
        return None


@register("dirac")
@dataclass(frozen=True)
class Dirac(_Grouped):
    """A convolution that passes on as many channels as it can."""

    groups: int | None = None
    function = "dirac_"
    is_random = False

    def check(self, weight: Weight) -> None:
        _check_dims(self, weight, 3, 5)

    def target_std(self, weight: Weight) -> float | None:
        return None


@register("eye")
@dataclass(frozen=True)
class Eye(Drawn):
    """The identity matrix, cut to shape."""

    function = "eye_"
    is_random = False

    def resolve(self, weight: Weight) -> Blocks:
        _check_dims(self, weight, 2, 2)
        return (Block(self),)

    def target_std(self, weight: Weight) -> float | None:
        return None


@register("hadamard")
@dataclass(frozen=True)
class Hadamard(Drawn):
    """ZerO: a partial identity, or a part of a Hadamard matrix (Zhao et al. 2022)."""

    function = "hadamard_"
    is_random = False

    def resolve(self, weight: Weight) -> Blocks:
        _check_dims(self, weight, 2, 5)
        return (Block(self),)

    def fill_by_torch_(self, tensor: Tensor) -> None:
        raise ValueError("torch has no hadamard_")

    def target_std(self, weight: Weight) -> float | None:
        return None


@register("sparse")
@dataclass(frozen=True)
class Sparse(Drawn):
    """Normal numbers, the same count of random zeros in each column (Martens 2010)."""

    sparsity: float
    std: float = 0.01
    function = "sparse_"

    def __post_init__(self) -> None:
        _check_normal(0.0, self.std)
        if not 0 <= self.sparsity <= 1:
            raise ValueError(f"sparsity must be in [0, 1], got {self.sparsity}")

    def resolve(self, weight: Weight) -> Blocks:
        _check_dims(self, weight, 2, 2)
        return (Block(self),)

    def target_std(self, weight: Weight) -> float | None:
        rows = weight.shape[0]
        zeros = math.ceil(self.sparsity * rows)
        return self.std * math.sqrt(1 - zeros / rows) if rows else None


# ---- Formulas ------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def gain_of(nonlinearity: str | float, a: float = 0.0) -> float:
    """The gain of an activation: by torch's name, the name of another one in ``torch.nn.functional``
    (by quadrature), or given as a number."""
    if not isinstance(nonlinearity, str):
        return float(nonlinearity)
    if nonlinearity in _TORCHS_GAINS:
        return calculate_gain(nonlinearity, a)
    function = getattr(functional, nonlinearity, None)
    if not callable(function):
        raise ValueError(  # noqa: TRY004  as for names that torch does not know
            f"nonlinearity must be a number, a name that torch has a gain for, or the name of an "
            f"activation in torch.nn.functional, got {nonlinearity!r}"
        )
    return calculate_gain(function)


_TORCHS_GAINS = frozenset(("linear", "sigmoid", "tanh", "relu", "leaky_relu", "selu")) | {
    f"conv{kind}{dims}d" for kind in ("", "_transpose") for dims in (1, 2, 3)
}


@dataclass(frozen=True)
class _Scaled(Initializer):
    """Numbers of mean 0 with a variance that the fans set."""

    def resolve(self, weight: Weight) -> Blocks:
        if 0 in weight.shape:
            return (Block(Constant(0.0)),)
        if len(weight.shape) < 2:
            raise ValueError(
                f"{self.name} needs at least 2 dimensions, got shape {tuple(weight.shape)}"
            )
        return (Block(self.drawn(weight)),)

    def drawn(self, weight: Weight) -> Drawn:
        raise NotImplementedError


def _uniform(std: float) -> Uniform:
    bound = _ROOT_3 * std
    return Uniform(-bound, bound)


def _normal(std: float) -> Normal:
    return Normal(0.0, std)


def _truncated_normal(std: float) -> TruncNormal:
    std /= _TRUNCATED_STD
    return TruncNormal(0.0, std, -2 * std, 2 * std)


_DISTRIBUTIONS: dict[str, Callable[[float], Drawn]] = {
    "uniform": _uniform,
    "normal": _normal,
    "untruncated_normal": _normal,
    "truncated_normal": _truncated_normal,
}


@register("variance_scaling")
@dataclass(frozen=True)
class VarianceScaling(_Scaled):
    """Variance scale / fan: the formula of LeCun's, Glorot's and He's, named as in Keras and JAX."""

    scale: float = 1.0
    mode: str = "fan_in"
    distribution: str = "truncated_normal"

    def __post_init__(self) -> None:
        if not 0 < self.scale < math.inf:
            raise ValueError(f"scale must be positive and finite, got {self.scale}")
        mean_fan((1, 1), self.mode)
        if self.distribution not in _DISTRIBUTIONS:
            raise ValueError(
                f"distribution must be one of {list(_DISTRIBUTIONS)}, got {self.distribution!r}"
            )

    def drawn(self, weight: Weight) -> Drawn:
        fan = mean_fan(weight.shape, self.mode, weight.groups, weight.transposed)
        return _DISTRIBUTIONS[self.distribution](math.sqrt(self.scale / fan))


@dataclass(frozen=True)
class _Xavier(_Scaled):
    gain: float = 1.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.gain):
            raise ValueError(f"gain must be finite, got {self.gain}")

    def weight_std(self, weight: Weight) -> float:
        fan_in, fan_out = weight.fans
        return self.gain * math.sqrt(2.0 / float(fan_in + fan_out))


@register("xavier_uniform")
@dataclass(frozen=True)
class XavierUniform(_Xavier):
    """Uniform of variance 2 gain^2 / (fan_in + fan_out) (Glorot & Bengio 2010)."""

    def drawn(self, weight: Weight) -> Drawn:
        return _uniform(self.weight_std(weight))


@register("xavier_normal")
@dataclass(frozen=True)
class XavierNormal(_Xavier):
    """Normal of variance 2 gain^2 / (fan_in + fan_out) (Glorot & Bengio 2010)."""

    def drawn(self, weight: Weight) -> Drawn:
        return _normal(self.weight_std(weight))


@dataclass(frozen=True)
class _Kaiming(_Scaled):
    a: float = 0.0
    mode: str = "fan_in"
    nonlinearity: str | float = "leaky_relu"

    def __post_init__(self) -> None:
        mean_fan((1, 1), self.mode)
        gain_of(self.nonlinearity, self.a)

    def weight_std(self, weight: Weight) -> float:
        fan = mean_fan(weight.shape, self.mode, weight.groups, weight.transposed)
        return gain_of(self.nonlinearity, self.a) / math.sqrt(fan)


@register("kaiming_uniform")
@dataclass(frozen=True)
class KaimingUniform(_Kaiming):
    """Uniform of variance gain^2 / fan (He et al. 2015)."""

    def drawn(self, weight: Weight) -> Drawn:
        return _uniform(self.weight_std(weight))


@register("kaiming_normal")
@dataclass(frozen=True)
class KaimingNormal(_Kaiming):
    """Normal of variance gain^2 / fan (He et al. 2015)."""

    def drawn(self, weight: Weight) -> Drawn:
        return _normal(self.weight_std(weight))


@register("lecun_uniform")
@dataclass(frozen=True)
class LecunUniform(_Scaled):
    """Uniform of variance 1 / fan_in (LeCun et al. 1998)."""

    def drawn(self, weight: Weight) -> Drawn:
        return _uniform(1 / math.sqrt(weight.fans[0]))


@register("lecun_normal")
@dataclass(frozen=True)
class LecunNormal(_Scaled):
    """Truncated normal of variance 1 / fan_in (LeCun et al. 1998)."""

    def drawn(self, weight: Weight) -> Drawn:
        return _truncated_normal(1 / math.sqrt(weight.fans[0]))


@register("prior_bias")
@dataclass(frozen=True)
class PriorBias(Initializer):
    """The bias with which a sigmoid gives the probability p (Lin et al. 2017, section 3.3)."""

    p: float = 0.01

    def __post_init__(self) -> None:
        if not 0 < self.p < 1:
            raise ValueError(f"p must be in (0, 1), got {self.p}")

    def resolve(self, weight: Weight) -> Blocks:
        return (Block(Constant(-math.log((1 - self.p) / self.p))),)


# ---- Of parts ------------------------------------------------------------------------------------


@register("parts")
@dataclass(frozen=True)
class Parts(Initializer):
    """Dim 0 in equal parts, an initializer for each: the gates of an LSTM, say."""

    parts: tuple[Initializer, ...]

    def resolve(self, weight: Weight) -> Blocks:
        count = len(self.parts)
        rows, rest = divmod(weight.shape[0] if weight.shape else 0, count)
        if rest or not weight.shape:
            raise ValueError(
                f"parts: dim 0 of shape {tuple(weight.shape)} is not {count} equal parts"
            )
        return tuple(
            _moved(block, i * rows, rows)
            for i, part in enumerate(self.parts)
            for block in part.resolve(weight.rows(0, rows))
        )


def _moved(block: Block, first: int, count: int) -> Block:
    start, stop = block.rows or (0, count)
    return block._replace(rows=(first + start, first + stop))


@register("padded")
@dataclass(frozen=True)
class Padded(Initializer):
    """An embedding: one row, the padding's, is zero."""

    initializer: Initializer
    row: int

    def resolve(self, weight: Weight) -> Blocks:
        row = self.row + weight.shape[0] if self.row < 0 else self.row
        if not 0 <= row < weight.shape[0]:
            raise ValueError(f"padded: row {self.row} is outside of shape {tuple(weight.shape)}")
        blocks = self.initializer.resolve(weight)
        last = max(block.wave for block in blocks)
        return (*blocks, Block(Constant(0.0), (row, row + 1), last + 1))

    def target_std(self, weight: Weight) -> float | None:
        return self.initializer.target_std(weight)


@register("keep")
@dataclass(frozen=True)
class Keep(Initializer):
    """The values that are there."""

    def resolve(self, weight: Weight) -> Blocks:
        return ()


@register("own_reset")
@dataclass(frozen=True)
class OwnReset(Initializer):
    """The module's own ``reset_parameters``, with torch's generator seeded from the key."""

    def resolve(self, weight: Weight) -> Blocks:
        return ()


KEEP, ZEROS, ONES = Keep(), Constant(0.0), Constant(1.0)
