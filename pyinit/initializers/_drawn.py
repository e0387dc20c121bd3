"""Initializers that are one call of a function of ``pyinit.init``."""

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor

import pyinit.init
from pyinit._random.distributions import CONSTANT, NORMAL, TRUNC_NORMAL, UNIFORM
from pyinit._random.rng import Source
from pyinit._scale.formulas import std_of_truncated_normal
from pyinit._torch.original import original
from pyinit.initializers._base import Block, Blocks, Drawn, Weight, check_dims, register


@register("constant")
@dataclass(frozen=True)
class Constant(Drawn):
    """One value everywhere.

    Attributes:
        val: the value

    Example:
        >>> import torch, pyinit
        >>> layer = torch.nn.Linear(3, 2)
        >>> _ = pyinit.initialize_(layer, rules={"bias": pyinit.initializers.Constant(0.5)}, seed=0)
        >>> layer.bias.tolist()
        [0.5, 0.5]
    """

    val: float
    function = "constant_"
    is_random = False

    def fits(self, largest: float) -> bool:
        return CONSTANT.takes(largest, self.val)

    def target_std(self, weight: Weight) -> float | None:
        return 0.0


@register("uniform")
@dataclass(frozen=True)
class Uniform(Drawn):
    """Numbers drawn uniformly from [a, b).

    Attributes:
        a: the lower bound
        b: the upper bound, at least ``a``

    Raises:
        ValueError: for bounds that are not finite or out of order.

    Example:
        >>> import torch, pyinit
        >>> layer = torch.nn.Linear(100, 10)
        >>> rules = {"*": pyinit.initializers.Uniform(-0.1, 0.1)}
        >>> report = pyinit.initialize_(layer, rules=rules, seed=0)
        >>> bool(layer.weight.abs().max() <= 0.1)
        True
    """

    a: float = 0.0
    b: float = 1.0
    function = "uniform_"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.a) and math.isfinite(self.b) and self.fits(math.inf)):
            raise ValueError(f"a must be at most b, both finite, got a={self.a} and b={self.b}")

    def fits(self, largest: float) -> bool:
        return UNIFORM.takes(largest, self.a, self.b)

    def target_std(self, weight: Weight) -> float | None:
        return (self.b - self.a) / math.sqrt(12)


@register("normal")
@dataclass(frozen=True)
class Normal(Drawn):
    """Numbers drawn from the normal distribution.

    Attributes:
        mean: the mean
        std: the standard deviation, at least 0

    Raises:
        ValueError: for a negative ``std``, or parameters that are not finite.

    Example:
        >>> import torch, pyinit
        >>> model = torch.nn.Embedding(1000, 64)
        >>> report = pyinit.initialize_(model, rules={"*": pyinit.initializers.Normal(std=0.02)}, seed=0)
        >>> round(model.weight.std().item(), 3)
        0.02
    """

    mean: float = 0.0
    std: float = 1.0
    function = "normal_"

    def __post_init__(self) -> None:
        _check_normal(self.mean, self.std)

    def fits(self, largest: float) -> bool:
        return NORMAL.takes(largest, self.mean, self.std)

    def target_std(self, weight: Weight) -> float | None:
        return self.std


def _check_normal(mean: float, std: float) -> None:
    if not (math.isfinite(mean) and math.isfinite(std) and NORMAL.takes(math.inf, mean, std)):
        raise ValueError(f"std must be at least 0, mean and std finite, got {mean=} and {std=}")


@register("trunc_normal")
@dataclass(frozen=True)
class TruncNormal(Drawn):
    """Numbers drawn from the normal distribution within [a, b].

    Attributes:
        mean: the mean before truncation
        std: the standard deviation before truncation, above 0
        a: the lower bound; may be ``-inf``
        b: the upper bound; may be ``inf``

    Raises:
        ValueError: if ``std`` is not above 0, ``a`` is above ``b``, or mean or std is not finite.

    Example:
        >>> from pyinit.initializers import TruncNormal, Weight
        >>> round(TruncNormal(std=1.0, a=-2.0, b=2.0).target_std(Weight((3, 4))), 4)
        0.8796
    """

    mean: float = 0.0
    std: float = 1.0
    a: float = -2.0
    b: float = 2.0
    function = "trunc_normal_"

    def __post_init__(self) -> None:
        _check_normal(self.mean, self.std)
        if not self.fits(math.inf):
            raise ValueError(
                f"std must be above 0 and a at most b, got std={self.std}, a={self.a}, b={self.b}"
            )

    def fits(self, largest: float) -> bool:
        return TRUNC_NORMAL.takes(largest, self.mean, self.std, self.a, self.b)

    def target_std(self, weight: Weight) -> float | None:
        return std_of_truncated_normal(self.mean, self.std, self.a, self.b)


@dataclass(frozen=True)
class _Grouped(Drawn):
    """A matrix for each group of a convolution. A field ``groups`` that is None means the layer's own."""

    def resolve(self, weight: Weight) -> Blocks:
        self.check(weight)
        if getattr(self, "groups", None) is None:
            return (Block(dataclasses.replace(self, groups=weight.groups)),)  # type: ignore[call-arg]
        return (Block(self),)

    def check(self, weight: Weight) -> None:
        """Refuse a weight that it cannot fill."""
        raise NotImplementedError


@register("orthogonal")
@dataclass(frozen=True)
class Orthogonal(_Grouped):
    """A Haar-random (semi-)orthogonal matrix times ``gain``.

    Attributes:
        gain: a finite factor
        groups: how many matrices one above the other; None for the groups of the weight's layer

    References:
        Saxe et al. (2014), `Exact solutions to the nonlinear dynamics of learning in deep linear
        neural networks`.

    Example:
        >>> import torch, pyinit
        >>> layer = torch.nn.Linear(5, 3, bias=False)
        >>> _ = pyinit.initialize_(layer, rules={"*": pyinit.initializers.Orthogonal()}, seed=0)
        >>> torch.allclose(layer.weight @ layer.weight.t(), torch.eye(3), atol=1e-6)
        True
    """

    gain: float = 1.0
    groups: int | None = None
    function = "orthogonal_"

    def check(self, weight: Weight) -> None:
        check_dims(self, weight, 2, None)

    def fits(self, largest: float) -> bool:
        return abs(self.gain) <= largest

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
    """Zeros but for an orthogonal matrix at a convolution's centre tap.

    Attributes:
        gain: a finite factor
        groups: how many matrices; None for the groups of the weight's layer

    References:
        Xiao et al. (2018), `Dynamical isometry and a mean field theory of CNNs: how to train
        10,000-layer vanilla convolutional neural networks`.

    Example:
        >>> import torch, pyinit
        >>> layer = torch.nn.Conv2d(4, 8, 3, bias=False)
        >>> _ = pyinit.initialize_(layer, rules={"*": pyinit.initializers.DeltaOrthogonal()}, seed=0)
        >>> centre = layer.weight[:, :, 1, 1]
        >>> torch.allclose(centre.t() @ centre, torch.eye(4), atol=1e-6)
        True
    """

    gain: float = 1.0
    groups: int | None = None
    function = "delta_orthogonal_"

    def check(self, weight: Weight) -> None:
        check_dims(self, weight, 3, 5)
        rows = weight.shape[0] // (self.groups or weight.groups)
        if rows < weight.shape[1]:
            raise ValueError(
                "delta_orthogonal needs at least as many outputs as inputs in each group, "
                f"got shape {tuple(weight.shape)} in {self.groups or weight.groups} groups"
            )

    def fits(self, largest: float) -> bool:
        return abs(self.gain) <= largest

    def fill_by_torch_(self, tensor: Tensor) -> None:
        raise ValueError("torch has no delta_orthogonal_")

    def target_std(self, weight: Weight) -> float | None:
        return None


@register("dirac")
@dataclass(frozen=True)
class Dirac(_Grouped):
    """The weight of a convolution that passes on as many channels as it can.

    Attributes:
        groups: the groups that channels pass on in; None for those of the weight's layer

    References:
        Zagoruyko & Komodakis (2017), `DiracNets: training very deep neural networks without
        skip-connections`.

    Example:
        >>> import torch, pyinit
        >>> layer = torch.nn.Conv1d(4, 4, 3, padding=1, bias=False)
        >>> _ = pyinit.initialize_(layer, rules={"*": pyinit.initializers.Dirac()}, seed=0)
        >>> signal = torch.randn(1, 4, 10)
        >>> torch.equal(layer(signal), signal)
        True
    """

    groups: int | None = None
    function = "dirac_"
    is_random = False

    def check(self, weight: Weight) -> None:
        check_dims(self, weight, 3, 5)

    def target_std(self, weight: Weight) -> float | None:
        return None


@register("eye")
@dataclass(frozen=True)
class Eye(Drawn):
    """The identity matrix, cut to the weight's shape, times ``gain``.

    Attributes:
        gain: a finite factor

    Raises:
        ValueError: for a gain that is not finite.

    Example:
        >>> import torch, pyinit
        >>> layer = torch.nn.Linear(3, 2, bias=False)
        >>> _ = pyinit.initialize_(layer, rules={"*": pyinit.initializers.Eye()}, seed=0)
        >>> layer.weight.tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """

    gain: float = 1.0
    function = "eye_"
    is_random = False

    def __post_init__(self) -> None:
        if not math.isfinite(self.gain):
            raise ValueError(f"gain must be finite, got {self.gain}")

    def resolve(self, weight: Weight) -> Blocks:
        check_dims(self, weight, 2, 2)
        return (Block(self),)

    def fits(self, largest: float) -> bool:
        return abs(self.gain) <= largest

    def fill_(self, tensor: Tensor, source: Source) -> None:
        self._multiply(pyinit.init.eye_(tensor))

    def fill_by_torch_(self, tensor: Tensor) -> None:
        self._multiply(original.eye_(tensor))

    def _multiply(self, identity: Tensor) -> None:
        if self.gain != 1.0:
            with torch.no_grad():
                identity.diagonal().mul_(self.gain)

    def target_std(self, weight: Weight) -> float | None:
        return None


@register("hadamard")
@dataclass(frozen=True)
class Hadamard(Drawn):
    """ZerO's weights: a partial identity, or a part of a Hadamard matrix where there are more outputs.

    References:
        Zhao et al. (2022), `ZerO initialization: initializing neural networks with only zeros and
        ones`.

    Example:
        >>> import torch, pyinit
        >>> layer = torch.nn.Linear(2, 4, bias=False)
        >>> _ = pyinit.initialize_(layer, rules={"*": pyinit.initializers.Hadamard()}, seed=0)
        >>> layer.weight.tolist()
        [[0.5, 0.5], [0.5, -0.5], [0.5, 0.5], [0.5, -0.5]]
    """

    function = "hadamard_"
    is_random = False

    def resolve(self, weight: Weight) -> Blocks:
        check_dims(self, weight, 2, 5)
        return (Block(self),)

    def fill_by_torch_(self, tensor: Tensor) -> None:
        raise ValueError("torch has no hadamard_")

    def target_std(self, weight: Weight) -> float | None:
        return None


@register("sparse")
@dataclass(frozen=True)
class Sparse(Drawn):
    """Normal numbers, with the same count of zeros at random places in each column.

    Attributes:
        sparsity: the fraction of each column that is zero, rounded up to whole elements
        std: the standard deviation of the other elements, at least 0

    Raises:
        ValueError: for a sparsity outside of [0, 1], or a ``std`` that is negative or not finite.

    References:
        Martens (2010), `Deep learning via Hessian-free optimization`.

    Example:
        >>> import torch, pyinit
        >>> layer = torch.nn.Linear(4, 10, bias=False)
        >>> _ = pyinit.initialize_(layer, rules={"*": pyinit.initializers.Sparse(0.7)}, seed=0)
        >>> (layer.weight == 0).sum(0).tolist()
        [7, 7, 7, 7]
    """

    sparsity: float
    std: float = 0.01
    function = "sparse_"

    def __post_init__(self) -> None:
        _check_normal(0.0, self.std)
        if not 0 <= self.sparsity <= 1:
            raise ValueError(f"sparsity must be in [0, 1], got {self.sparsity}")

    def resolve(self, weight: Weight) -> Blocks:
        check_dims(self, weight, 2, 2)
        return (Block(self),)

    def fits(self, largest: float) -> bool:
        return NORMAL.takes(largest, 0.0, self.std)

    def target_std(self, weight: Weight) -> float | None:
        rows = weight.shape[0]
        zeros = math.ceil(self.sparsity * rows)
        return self.std * math.sqrt(1 - zeros / rows) if rows else None
