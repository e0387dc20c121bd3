"""Initializers whose variance the fans of the weight set, and a bias that a probability sets."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from pyinit._scale.fans import mean_fan
from pyinit._scale.formulas import (
    kaiming_std,
    normal_of_std,
    truncated_normal_of_std,
    uniform_of_std,
    variance_scaling_std,
    xavier_std,
)
from pyinit._scale.gain import AnyNonlinearity, gain_of
from pyinit.initializers._base import Block, Blocks, Drawn, Initializer, Weight, register
from pyinit.initializers._drawn import Constant, Normal, TruncNormal, Uniform


@dataclass(frozen=True)
class _Scaled(Initializer):
    """Numbers of mean 0 with a variance that the fans set.

    transposed, batch_dims: as ``Weight`` has them; None for those of the weight's layer
    """

    transposed: bool | None = field(default=None, kw_only=True)
    batch_dims: int | None = field(default=None, kw_only=True)

    def __repr__(self) -> str:
        arguments = ", ".join(f"{f.name}={getattr(self, f.name)!r}" for f in self._told())
        return f"{type(self).__qualname__}({arguments})"

    def taken(self, weight: Weight) -> Weight:
        transposed = weight.transposed if self.transposed is None else self.transposed
        batch_dims = weight.batch_dims if self.batch_dims is None else self.batch_dims
        return weight._replace(transposed=transposed, batch_dims=batch_dims)

    def resolve(self, weight: Weight) -> Blocks:
        weight = self.taken(weight)
        if 0 in weight.shape:
            return (Block(Constant(0.0)),)
        if len(weight.shape) < 2:
            raise ValueError(
                f"{self.name} needs at least 2 dimensions, got shape {tuple(weight.shape)}"
            )
        return (Block(self.drawn(weight)),)

    def drawn(self, weight: Weight) -> Drawn:
        """What it draws for a weight that has fans and elements."""
        raise NotImplementedError


def _uniform(std: float) -> Uniform:
    return Uniform(*uniform_of_std(std))


def _normal(std: float) -> Normal:
    return Normal(*normal_of_std(std))


def _truncated_normal(std: float) -> TruncNormal:
    return TruncNormal(*truncated_normal_of_std(std))


_DISTRIBUTIONS: dict[str, Callable[[float], Drawn]] = {
    "uniform": _uniform,
    "normal": _normal,
    "untruncated_normal": _normal,
    "truncated_normal": _truncated_normal,
}


@register("variance_scaling")
@dataclass(frozen=True, repr=False)
class VarianceScaling(_Scaled):
    """Numbers of variance scale / fan: the formula of LeCun's, Glorot's and He's initialization.

    Attributes:
        scale: a positive factor on the variance
        mode: ``"fan_in"``, ``"fan_out"``, ``"fan_avg"`` (arithmetic mean) or ``"fan_geo_avg"``
            (geometric mean)
        distribution: ``"truncated_normal"``, ``"normal"`` (also called ``"untruncated_normal"``) or
            ``"uniform"``
        transposed: whether the inputs stand before the outputs; None for what the weight's layer says
        batch_dims: how many dimensions in front only count weights, such as the experts of a mixture;
            None for what the weight's layer says

    Raises:
        ValueError: for a scale that is not positive and finite, or an unknown mode or distribution.

    References:
        He et al. (2015), `Delving deep into rectifiers`, for the formula. Glorot & Bengio (2010),
        `Understanding the difficulty of training deep feedforward neural networks`, for the mean of
        both fans.

    Example:
        >>> from pyinit.initializers import VarianceScaling, Weight
        >>> init = VarianceScaling(scale=2.0, mode="fan_avg", distribution="normal")
        >>> init.resolve(Weight((30, 20)))[0].drawn
        Normal(mean=0.0, std=0.282842712474619)
    """

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
        fan = mean_fan(weight.shape, self.mode, weight.groups, weight.transposed, weight.batch_dims)
        return _DISTRIBUTIONS[self.distribution](variance_scaling_std(self.scale, fan))


@dataclass(frozen=True, repr=False)
class _Xavier(_Scaled):
    gain: float = 1.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.gain):
            raise ValueError(f"gain must be finite, got {self.gain}")

    def weight_std(self, weight: Weight) -> float:
        """The standard deviation of a weight's numbers."""
        return xavier_std(self.gain, *weight.fans)


@register("xavier_uniform")
@dataclass(frozen=True, repr=False)
class XavierUniform(_Xavier):
    """Uniform numbers of variance 2 gain^2 / (fan_in + fan_out).

    Attributes:
        gain: a finite factor on the bounds
        transposed: whether the inputs stand before the outputs; None for what the weight's layer says
        batch_dims: how many dimensions in front only count weights, such as the experts of a mixture;
            None for what the weight's layer says

    Raises:
        ValueError: for a gain that is not finite.

    References:
        Glorot & Bengio (2010), `Understanding the difficulty of training deep feedforward neural
        networks`.

    Example:
        >>> from pyinit.initializers import Weight, XavierUniform
        >>> print(XavierUniform().resolve(Weight((14, 10)))[0].drawn)
        uniform(a=-0.5, b=0.5)
    """

    def drawn(self, weight: Weight) -> Drawn:
        return _uniform(self.weight_std(weight))


@register("xavier_normal")
@dataclass(frozen=True, repr=False)
class XavierNormal(_Xavier):
    """Normal numbers of variance 2 gain^2 / (fan_in + fan_out).

    Attributes:
        gain: a finite factor on the standard deviation
        transposed: whether the inputs stand before the outputs; None for what the weight's layer says
        batch_dims: how many dimensions in front only count weights, such as the experts of a mixture;
            None for what the weight's layer says

    Raises:
        ValueError: for a gain that is not finite.

    References:
        Glorot & Bengio (2010), `Understanding the difficulty of training deep feedforward neural
        networks`.

    Example:
        >>> from pyinit.initializers import Weight, XavierNormal
        >>> print(XavierNormal(gain=0.5).resolve(Weight((5, 3)))[0].drawn)
        normal(std=0.25)
    """

    def drawn(self, weight: Weight) -> Drawn:
        return _normal(self.weight_std(weight))


@dataclass(frozen=True, repr=False)
class _Kaiming(_Scaled):
    a: float = 0.0
    mode: str = "fan_in"
    nonlinearity: AnyNonlinearity = "leaky_relu"

    def __post_init__(self) -> None:
        mean_fan((1, 1), self.mode)
        gain = gain_of(self.nonlinearity, self.a)
        if not isinstance(
            self.nonlinearity, (str, int, float)
        ):  # which files and reports cannot hold
            object.__setattr__(self, "nonlinearity", gain)

    def weight_std(self, weight: Weight) -> float:
        """The standard deviation of a weight's numbers."""
        fan = mean_fan(weight.shape, self.mode, weight.groups, weight.transposed, weight.batch_dims)
        return kaiming_std(gain_of(self.nonlinearity, self.a), fan)


@register("kaiming_uniform")
@dataclass(frozen=True, repr=False)
class KaimingUniform(_Kaiming):
    """Uniform numbers of variance gain^2 / fan.

    Attributes:
        a: the negative slope of ``"leaky_relu"``
        mode: ``"fan_in"``, ``"fan_out"``, ``"fan_avg"`` or ``"fan_geo_avg"``
        nonlinearity: the activation that follows the layer, or its gain, as ``calculate_gain`` takes
            it. Of a module, a class or a function the gain is kept
        transposed: whether the inputs stand before the outputs; None for what the weight's layer says
        batch_dims: how many dimensions in front only count weights, such as the experts of a mixture;
            None for what the weight's layer says

    Raises:
        ValueError: for an unknown mode or nonlinearity.

    References:
        He et al. (2015), `Delving deep into rectifiers: surpassing human-level performance on
        ImageNet classification`.

    Example:
        >>> from pyinit.initializers import KaimingUniform, Weight
        >>> print(KaimingUniform(nonlinearity="relu").resolve(Weight((8, 24)))[0].drawn)
        uniform(a=-0.5, b=0.5)
    """

    def drawn(self, weight: Weight) -> Drawn:
        return _uniform(self.weight_std(weight))


@register("kaiming_normal")
@dataclass(frozen=True, repr=False)
class KaimingNormal(_Kaiming):
    """Normal numbers of variance gain^2 / fan.

    Attributes:
        a: the negative slope of ``"leaky_relu"``
        mode: ``"fan_in"``, ``"fan_out"``, ``"fan_avg"`` or ``"fan_geo_avg"``
        nonlinearity: the activation that follows the layer, or its gain, as ``calculate_gain`` takes
            it. Of a module, a class or a function the gain is kept
        transposed: whether the inputs stand before the outputs; None for what the weight's layer says
        batch_dims: how many dimensions in front only count weights, such as the experts of a mixture;
            None for what the weight's layer says

    Raises:
        ValueError: for an unknown mode or nonlinearity.

    References:
        He et al. (2015), `Delving deep into rectifiers: surpassing human-level performance on
        ImageNet classification`.

    Example:
        >>> from pyinit.initializers import KaimingNormal, Weight
        >>> init = KaimingNormal(mode="fan_out", nonlinearity="relu")
        >>> print(init.resolve(Weight((8, 3, 2, 2)))[0].drawn)
        normal(std=0.25)
    """

    def drawn(self, weight: Weight) -> Drawn:
        return _normal(self.weight_std(weight))


def _lecun_std(weight: Weight) -> float:
    return kaiming_std(1.0, weight.fans[0])  # the last bit of sqrt(1 / fan_in) may be another one


@register("lecun_uniform")
@dataclass(frozen=True, repr=False)
class LecunUniform(_Scaled):
    """Uniform numbers of variance 1 / fan_in.

    Attributes:
        transposed: whether the inputs stand before the outputs; None for what the weight's layer says
        batch_dims: how many dimensions in front only count weights, such as the experts of a mixture;
            None for what the weight's layer says

    References:
        LeCun et al. (1998), `Efficient BackProp`.

    Example:
        >>> from pyinit.initializers import LecunUniform, Weight
        >>> print(LecunUniform().resolve(Weight((8, 12)))[0].drawn)
        uniform(a=-0.5, b=0.5)
    """

    def drawn(self, weight: Weight) -> Drawn:
        return _uniform(_lecun_std(weight))


@register("lecun_normal")
@dataclass(frozen=True, repr=False)
class LecunNormal(_Scaled):
    """Truncated normal numbers of variance 1 / fan_in.

    Attributes:
        transposed: whether the inputs stand before the outputs; None for what the weight's layer says
        batch_dims: how many dimensions in front only count weights, such as the experts of a mixture;
            None for what the weight's layer says

    References:
        LeCun et al. (1998), `Efficient BackProp`. Klambauer et al. (2017), `Self-normalizing neural
        networks`.

    Example:
        >>> from pyinit.initializers import LecunNormal, Weight
        >>> weight = Weight((8, 25))
        >>> round(LecunNormal().target_std(weight), 3)
        0.2
    """

    def drawn(self, weight: Weight) -> Drawn:
        return _truncated_normal(_lecun_std(weight))


@register("prior_bias")
@dataclass(frozen=True)
class PriorBias(Initializer):
    """The bias with which a sigmoid gives the probability p.

    Attributes:
        p: the probability, in (0, 1)

    Raises:
        ValueError: for a ``p`` outside of (0, 1).

    References:
        Lin et al. (2017), `Focal loss for dense object detection`, section 3.3.

    Example:
        >>> import torch, pyinit
        >>> head = torch.nn.Linear(4, 1)
        >>> _ = pyinit.initialize_(head, rules={"bias": pyinit.initializers.PriorBias(0.01)}, seed=0)
        >>> round(torch.sigmoid(head.bias).item(), 4)
        0.01
    """

    p: float = 0.01

    def __post_init__(self) -> None:
        if not 0 < self.p < 1:
            raise ValueError(f"p must be in (0, 1), got {self.p}")

    def resolve(self, weight: Weight) -> Blocks:
        return (Block(Constant(-math.log((1 - self.p) / self.p))),)
