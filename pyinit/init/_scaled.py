"""Initializers whose variance the fans of the weight set."""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Literal

from torch import Tensor
from torch.overrides import has_torch_function_unary as has_torch_function

from pyinit._random.rng import Source, for_torch, get_rng
from pyinit._scale.fans import FanMode, MeanFanMode, fans, mean_fan, one_fan
from pyinit._scale.formulas import (
    kaiming_std,
    normal_of_std,
    truncated_normal_of_std,
    uniform_of_std,
    variance_scaling_std,
    xavier_std,
)
from pyinit._scale.gain import Nonlinearity, NonlinearityName, gain_of
from pyinit._torch.original import original
from pyinit._torch.views import is_placeholder, whole_shape
from pyinit.init import _routes
from pyinit.init._basic import normal_, trunc_normal_, uniform_
from pyinit.init._routes import (
    fills,
    is_float_argument,
    is_torchs_call,
    warn_of_no_elements,
)

Distribution = Literal["truncated_normal", "normal", "untruncated_normal", "uniform"]


@fills
def xavier_uniform_(
    tensor: Tensor,
    gain: float = 1.0,
    generator: Source = None,
    *,
    groups: int = 1,
    transposed: bool = False,
    batch_dims: int = 0,
) -> Tensor:
    """Fill with uniform numbers of variance ``2 * gain**2 / (fan_in + fan_out)``.

    It keeps the scale of signals and of gradients about the same through layers whose activation is
    linear around 0. The bounds are
    ``+-gain * sqrt(6 / (fan_in + fan_out))``.

    Args:
        tensor: a weight of at least 2 dimensions, (out, in, *kernel), or a stack of weights
        gain: a factor on the bounds
        generator: the ``torch.Generator`` to draw the key from (default: torch's own), or a key of
            ``torch.func._random``
        groups: the convolution's groups; they must divide the first dimension of a weight
        transposed: whether the inputs stand before the outputs, as in a transposed convolution
        batch_dims: how many dimensions in front only count weights, such as the experts of a mixture

    Returns:
        ``tensor``.

    Raises:
        ValueError: for fewer than 2 dimensions, groups that do not divide the outputs, or ``batch_dims``
            that leave fewer than 2 dimensions.

    References:
        Glorot & Bengio (2010), `Understanding the difficulty of training deep feedforward neural
        networks`.

    Example:
        >>> import torch, pyinit
        >>> weight = pyinit.xavier_uniform_(torch.empty(200, 100))
        >>> bool(weight.abs().max() <= (6 / 300) ** 0.5)
        True
    """
    if (has_torch_function(tensor) or get_rng() == "torch") and is_torchs_call(
        xavier_uniform_, tensor, groups, transposed, batch_dims
    ):
        return _routes.by_torch(
            original.xavier_uniform_, tensor, gain, for_torch(generator, tensor)
        )
    _, low, high = _xavier(tensor, gain, groups, transposed, batch_dims)
    return uniform_(tensor, low, high, generator)


@fills
def xavier_normal_(
    tensor: Tensor,
    gain: float = 1.0,
    generator: Source = None,
    *,
    groups: int = 1,
    transposed: bool = False,
    batch_dims: int = 0,
) -> Tensor:
    """Fill with normal numbers of variance ``2 * gain**2 / (fan_in + fan_out)``.

    It keeps the scale of signals and of gradients about the same through layers whose activation is
    linear around 0.

    Args:
        tensor: a weight of at least 2 dimensions, (out, in, *kernel), or a stack of weights
        gain: a factor on the standard deviation
        generator: the ``torch.Generator`` to draw the key from (default: torch's own), or a key of
            ``torch.func._random``
        groups: the convolution's groups; they must divide the first dimension of a weight
        transposed: whether the inputs stand before the outputs, as in a transposed convolution
        batch_dims: how many dimensions in front only count weights, such as the experts of a mixture

    Returns:
        ``tensor``.

    Raises:
        ValueError: for fewer than 2 dimensions, groups that do not divide the outputs, or ``batch_dims``
            that leave fewer than 2 dimensions.

    References:
        Glorot & Bengio (2010), `Understanding the difficulty of training deep feedforward neural
        networks`.

    Example:
        >>> import torch, pyinit
        >>> _ = torch.manual_seed(0)
        >>> weight = pyinit.xavier_normal_(torch.empty(300, 500))
        >>> round(weight.std().item(), 3)  # sqrt(2 / 800)
        0.05
    """
    if (has_torch_function(tensor) or get_rng() == "torch") and is_torchs_call(
        xavier_normal_, tensor, groups, transposed, batch_dims
    ):
        return _routes.by_torch(original.xavier_normal_, tensor, gain, for_torch(generator, tensor))
    std, _, _ = _xavier(tensor, gain, groups, transposed, batch_dims)
    return normal_(tensor, 0.0, std, generator)


@fills
def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: FanMode = "fan_in",
    nonlinearity: Nonlinearity = "leaky_relu",
    generator: Source = None,
    *,
    groups: int = 1,
    transposed: bool = False,
    batch_dims: int = 0,
) -> Tensor:
    """Fill with uniform numbers of variance ``gain**2 / fan``.

    It keeps the scale of signals (or of gradients) through layers that end in a rectifier or, by its
    gain, in any other activation. The bounds are ``+-gain * sqrt(3 / fan)``.

    Args:
        tensor: a weight of at least 2 dimensions, (out, in, *kernel), or a stack of weights
        a: the negative slope of ``"leaky_relu"``
        mode: ``"fan_in"`` keeps the scale of the forward pass, ``"fan_out"`` of the backward pass
        nonlinearity: the activation that follows the layer, by name or itself, as
            ``calculate_gain`` takes it
        generator: the ``torch.Generator`` to draw the key from (default: torch's own), or a key of
            ``torch.func._random``
        groups: the convolution's groups; they must divide the first dimension of a weight
        transposed: whether the inputs stand before the outputs, as in a transposed convolution
        batch_dims: how many dimensions in front only count weights, such as the experts of a mixture

    Returns:
        ``tensor``.

    Raises:
        ValueError: for fewer than 2 dimensions, an unknown mode or nonlinearity, or groups that do
            not divide dim 0.

    Warns:
        UserWarning: if the tensor has no elements; nothing is done then.

    References:
        He et al. (2015), `Delving deep into rectifiers: surpassing human-level performance on
        ImageNet classification`.

    Example:
        >>> import torch, pyinit
        >>> weight = torch.empty(64, 32, 3, 3)  # of a convolution with four groups: 64 from 128 channels
        >>> _ = pyinit.kaiming_uniform_(weight, mode="fan_out", nonlinearity="relu", groups=4)
        >>> bool(weight.abs().max() <= (6 / (64 / 4 * 9)) ** 0.5)
        True
    """
    if (has_torch_function(tensor) or get_rng() == "torch") and is_torchs_call(
        kaiming_uniform_, tensor, groups, transposed, batch_dims, nonlinearity=nonlinearity
    ):
        return _routes.by_torch(
            original.kaiming_uniform_,
            tensor,
            a,
            mode,
            nonlinearity,
            for_torch(generator, tensor),
        )
    spread = _kaiming(tensor, a, mode, nonlinearity, groups, transposed, batch_dims)
    if spread is None:
        warn_of_no_elements()
        return tensor
    _, low, high = spread
    return uniform_(tensor, low, high, generator)


@fills
def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: FanMode = "fan_in",
    nonlinearity: Nonlinearity = "leaky_relu",
    generator: Source = None,
    *,
    groups: int = 1,
    transposed: bool = False,
    batch_dims: int = 0,
) -> Tensor:
    """Fill with normal numbers of variance ``gain**2 / fan``.

    It keeps the scale of signals (or of gradients) through layers that end in a rectifier or, by its
    gain, in any other activation.

    Args:
        tensor: a weight of at least 2 dimensions, (out, in, *kernel), or a stack of weights
        a: the negative slope of ``"leaky_relu"``
        mode: ``"fan_in"`` keeps the scale of the forward pass, ``"fan_out"`` of the backward pass
        nonlinearity: the activation that follows the layer, by name or itself, as
            ``calculate_gain`` takes it
        generator: the ``torch.Generator`` to draw the key from (default: torch's own), or a key of
            ``torch.func._random``
        groups: the convolution's groups; they must divide the first dimension of a weight
        transposed: whether the inputs stand before the outputs, as in a transposed convolution
        batch_dims: how many dimensions in front only count weights, such as the experts of a mixture

    Returns:
        ``tensor``.

    Raises:
        ValueError: for fewer than 2 dimensions, an unknown mode or nonlinearity, or groups that do
            not divide dim 0.

    Warns:
        UserWarning: if the tensor has no elements; nothing is done then.

    References:
        He et al. (2015), `Delving deep into rectifiers: surpassing human-level performance on
        ImageNet classification`.

    Example:
        >>> import torch, pyinit
        >>> _ = torch.manual_seed(0)
        >>> x = torch.randn(1000, 512)
        >>> for _ in range(20):
        ...     x = torch.relu(x @ pyinit.kaiming_normal_(torch.empty(512, 512), nonlinearity="relu").t())
        >>> 0.5 < x.square().mean().item() < 2.0  # still of the size of the input
        True
    """
    if (has_torch_function(tensor) or get_rng() == "torch") and is_torchs_call(
        kaiming_normal_, tensor, groups, transposed, batch_dims, nonlinearity=nonlinearity
    ):
        return _routes.by_torch(
            original.kaiming_normal_,
            tensor,
            a,
            mode,
            nonlinearity,
            for_torch(generator, tensor),
        )
    spread = _kaiming(tensor, a, mode, nonlinearity, groups, transposed, batch_dims)
    if spread is None:
        warn_of_no_elements()
        return tensor
    return normal_(tensor, 0.0, spread[0], generator)


@fills
def variance_scaling_(
    tensor: Tensor,
    scale: float = 1.0,
    mode: MeanFanMode = "fan_in",
    distribution: Distribution = "truncated_normal",
    generator: Source = None,
    *,
    groups: int = 1,
    transposed: bool = False,
    batch_dims: int = 0,
) -> Tensor:
    """Fill with numbers of mean 0 and variance ``scale / fan``.

    LeCun's, Glorot's and He's initialization are cases of this formula. The arguments have the names
    that they have in Keras and JAX. As in JAX, ``"normal"`` is not truncated; in Keras,
    ``distribution="normal"`` is what ``"truncated_normal"`` is here.

    Args:
        tensor: a weight of at least 2 dimensions, (out, in, *kernel), or a stack of weights
        scale: a positive factor on the variance
        mode: ``"fan_in"``, ``"fan_out"``, or their mean: ``"fan_avg"`` (arithmetic),
            ``"fan_geo_avg"`` (geometric)
        distribution: ``"truncated_normal"``, cut at two of its own standard deviations and widened
            so that the variance after the cut is right; ``"normal"``, also called
            ``"untruncated_normal"``; or ``"uniform"``
        generator: the ``torch.Generator`` to draw the key from (default: torch's own), or a key of
            ``torch.func._random``
        groups: the convolution's groups; they must divide the first dimension of a weight
        transposed: whether the inputs stand before the outputs, as in a transposed convolution
        batch_dims: how many dimensions in front only count weights, such as the experts of a mixture

    Returns:
        ``tensor``.

    Raises:
        ValueError: for fewer than 2 dimensions, a scale that is not positive and finite, an unknown
            mode or distribution, or groups that do not divide dim 0.

    Warns:
        UserWarning: if the tensor has no elements; nothing is done then.

    References:
        He et al. (2015), `Delving deep into rectifiers`, for the formula. Glorot & Bengio (2010),
        `Understanding the difficulty of training deep feedforward neural networks`, for the mean of
        both fans.

    Example:
        >>> import torch, pyinit
        >>> _ = torch.manual_seed(0)
        >>> weight = pyinit.variance_scaling_(torch.empty(400, 100), scale=2.0, mode="fan_avg")
        >>> round(weight.var().item() * 250, 1)
        2.0
    """
    return _variance_scaling(
        tensor,
        scale,
        mode,
        distribution,
        generator,
        groups=groups,
        transposed=transposed,
        batch_dims=batch_dims,
    )


@fills
def lecun_uniform_(
    tensor: Tensor,
    generator: Source = None,
    *,
    groups: int = 1,
    transposed: bool = False,
    batch_dims: int = 0,
) -> Tensor:
    """Fill with uniform numbers of variance ``1 / fan_in``.

    It is the scale that keeps unit variance through a linear layer. The bounds are
    ``+-sqrt(3 / fan_in)``.

    Args:
        tensor: a weight of at least 2 dimensions, (out, in, *kernel), or a stack of weights
        generator: the ``torch.Generator`` to draw the key from (default: torch's own), or a key of
            ``torch.func._random``
        groups: the convolution's groups; they must divide the first dimension of a weight
        transposed: whether the inputs stand before the outputs, as in a transposed convolution
        batch_dims: how many dimensions in front only count weights, such as the experts of a mixture

    Returns:
        ``tensor``.

    Raises:
        ValueError: for fewer than 2 dimensions, groups that do not divide the outputs, or ``batch_dims``
            that leave fewer than 2 dimensions.

    Warns:
        UserWarning: if the tensor has no elements; nothing is done then.

    References:
        LeCun et al. (1998), `Efficient BackProp`. Klambauer et al. (2017), `Self-normalizing neural
        networks`: at this scale SELU networks normalize themselves.

    Example:
        >>> import torch, pyinit
        >>> weight = pyinit.lecun_uniform_(torch.empty(100, 300))
        >>> bool(weight.abs().max() <= 0.1)  # sqrt(3 / 300)
        True
    """
    return _variance_scaling(
        tensor,
        1.0,
        "fan_in",
        "uniform",
        generator,
        groups=groups,
        transposed=transposed,
        batch_dims=batch_dims,
    )


@fills
def lecun_normal_(
    tensor: Tensor,
    generator: Source = None,
    *,
    groups: int = 1,
    transposed: bool = False,
    batch_dims: int = 0,
) -> Tensor:
    """Fill with truncated normal numbers of variance ``1 / fan_in``.

    This variance keeps unit variance through a linear layer. The numbers are cut at two standard deviations
    of a normal distribution that is widened to make up for the cut, as in Keras and JAX.

    Args:
        tensor: a weight of at least 2 dimensions, (out, in, *kernel), or a stack of weights
        generator: the ``torch.Generator`` to draw the key from (default: torch's own), or a key of
            ``torch.func._random``
        groups: the convolution's groups; they must divide the first dimension of a weight
        transposed: whether the inputs stand before the outputs, as in a transposed convolution
        batch_dims: how many dimensions in front only count weights, such as the experts of a mixture

    Returns:
        ``tensor``.

    Raises:
        ValueError: for fewer than 2 dimensions, groups that do not divide the outputs, or ``batch_dims``
            that leave fewer than 2 dimensions.

    Warns:
        UserWarning: if the tensor has no elements; nothing is done then.

    References:
        LeCun et al. (1998), `Efficient BackProp`. Klambauer et al. (2017), `Self-normalizing neural
        networks`: at this scale SELU networks normalize themselves.

    Example:
        >>> import torch, pyinit
        >>> _ = torch.manual_seed(0)
        >>> x = torch.randn(1000, 400)
        >>> for _ in range(20):
        ...     x = torch.selu(x @ pyinit.lecun_normal_(torch.empty(400, 400)).t())
        >>> round(x.std().item(), 1)  # SELU networks normalize themselves
        1.0
    """
    return _variance_scaling(
        tensor,
        1.0,
        "fan_in",
        "truncated_normal",
        generator,
        groups=groups,
        transposed=transposed,
        batch_dims=batch_dims,
    )


# What names and numbers say of a shape is remembered: to find it out takes as long as a small fill. The
# identity of arguments is asked, not their value, since True equals 1 and is refused as a number.
_GROUPS, _BATCH_DIMS = 1, 0
_NUMBERS = (float, int)
_Spread = tuple[float, float, float]
"""A standard deviation, and the bounds of the uniform distribution that has it."""


def _spread(std: float) -> _Spread:
    return std, *uniform_of_std(std)


def _xavier(tensor: Tensor, gain: float, groups: int, transposed: bool, batch_dims: int) -> _Spread:
    """What Glorot's formula gives a weight."""
    if (
        groups is _GROUPS
        and transposed is False
        and batch_dims is _BATCH_DIMS
        and gain.__class__ in _NUMBERS
    ):
        try:
            return _plain_xavier(tensor.shape, gain)
        except (TypeError, ValueError):  # a shape that cannot be a key, or what is refused below
            pass
    try:
        both = fans(tensor.shape, groups, transposed, batch_dims)
    except ValueError:
        if not is_placeholder(tensor):
            raise
        both = fans(whole_shape(tensor), groups, transposed, batch_dims)
    return _spread(xavier_std(gain, *both))


def _kaiming(  # noqa: PLR0917
    tensor: Tensor,
    a: float,
    mode: FanMode,
    nonlinearity: Nonlinearity,
    groups: int,
    transposed: bool,
    batch_dims: int,
) -> _Spread | None:
    """What He's formula gives a weight; None for one without elements."""
    if (
        groups is _GROUPS
        and transposed is False
        and batch_dims is _BATCH_DIMS
        and isinstance(nonlinearity, str)
        and a.__class__ in _NUMBERS
    ):
        try:
            if spread := _plain_kaiming(tensor.shape, a, mode, nonlinearity):
                return spread
        except (TypeError, ValueError):  # a shape that cannot be a key, or what is refused below
            pass
    shape: Sequence[int] = tensor.shape
    if 0 in shape:
        shape = whole_shape(tensor)
        if 0 in shape:
            return None
    fan = one_fan(shape, mode, groups, transposed, batch_dims)
    return _spread(kaiming_std(gain_of(nonlinearity, a), fan))


def _variance_std(  # noqa: PLR0917
    tensor: Tensor, scale: float, mode: str, groups: int, transposed: bool, batch_dims: int
) -> float | None:
    """The standard deviation with variance scale / fan; None for a weight without elements."""
    if (
        groups is _GROUPS
        and transposed is False
        and batch_dims is _BATCH_DIMS
        and scale.__class__ in _NUMBERS
    ):
        try:
            if std := _plain_variance_std(tensor.shape, scale, mode):
                return std
        except (TypeError, ValueError):  # a shape that cannot be a key, or what is refused below
            pass
    if not (is_float_argument(scale) and 0.0 < scale < math.inf):
        raise ValueError(f"scale must be a positive finite number, got {scale!r}")
    shape: Sequence[int] = tensor.shape
    if 0 in shape:
        shape = whole_shape(tensor)
    fan = mean_fan(shape, mode, groups, transposed, batch_dims)
    return None if 0 in shape else variance_scaling_std(scale, fan)


@lru_cache(1024)
def _plain_xavier(shape: Sequence[int], gain: float) -> _Spread:
    return _spread(xavier_std(gain, *fans(shape)))


@lru_cache(1024)
def _plain_kaiming(
    shape: Sequence[int], a: float, mode: FanMode, nonlinearity: NonlinearityName
) -> _Spread | None:
    if 0 in shape:
        return None
    return _spread(kaiming_std(gain_of(nonlinearity, a), one_fan(shape, mode)))


@lru_cache(1024)
def _plain_variance_std(shape: Sequence[int], scale: float, mode: str) -> float | None:
    if 0 in shape or not 0.0 < scale < math.inf:
        return None
    return variance_scaling_std(scale, mean_fan(shape, mode))


def _variance_scaling(
    tensor: Tensor,
    scale: float,
    mode: str,
    distribution: str,
    generator: Source,
    *,
    groups: int,
    transposed: bool,
    batch_dims: int,
) -> Tensor:
    if distribution not in _DISTRIBUTIONS:
        raise ValueError(
            f"distribution must be one of {list(_DISTRIBUTIONS)}, got {distribution!r}"
        )
    std = _variance_std(tensor, scale, mode, groups, transposed, batch_dims)
    if std is None:
        warn_of_no_elements()
        return tensor
    fill_, of_std = _DISTRIBUTIONS[distribution]
    return fill_(tensor, *of_std(std), generator)


# A distribution by its name in Keras and JAX: what fills, and its parameters for a standard deviation.
_DISTRIBUTIONS: dict[str, tuple[Callable[..., Tensor], Callable[[float], tuple[Any, ...]]]] = {
    "truncated_normal": (trunc_normal_, truncated_normal_of_std),
    "normal": (normal_, normal_of_std),
    "untruncated_normal": (normal_, normal_of_std),
    "uniform": (uniform_, uniform_of_std),
}
