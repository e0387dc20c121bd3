"""Initializers that are made of others, and those that leave the values to somebody else."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pyinit._random.rng import Source
from pyinit.initializers._base import Block, Blocks, Drawn, Initializer, Weight, register
from pyinit.initializers._drawn import Constant


@register("parts")
@dataclass(frozen=True)
class Parts(Initializer):
    """Dim 0 in equal parts, with an initializer for each: the gates of an LSTM, for example.

    Attributes:
        parts: an initializer for each part, in their order

    Example:
        >>> import torch, pyinit
        >>> from pyinit.initializers import Constant, Parts
        >>> bias = Parts((Constant(0.0), Constant(1.0), Constant(0.0), Constant(0.0)))  # forget gate open
        >>> lstm = torch.nn.LSTM(3, 2)
        >>> _ = pyinit.initialize_(lstm, rules={"bias_ih_l0": bias}, seed=0)
        >>> lstm.bias_ih_l0.tolist()
        [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    """

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
    """An embedding with a padding row, which is zero.

    Attributes:
        initializer: what fills the embedding
        row: the index of the padding row; a negative one counts from the end

    Example:
        >>> import torch, pyinit
        >>> from pyinit.initializers import Normal, Padded
        >>> embedding = torch.nn.Embedding(5, 3)
        >>> _ = pyinit.initialize_(embedding, rules={"weight": Padded(Normal(std=0.02), row=-1)}, seed=0)
        >>> embedding.weight[-1].tolist()
        [0.0, 0.0, 0.0]
    """

    initializer: Initializer
    row: int

    def taken(self, weight: Weight) -> Weight:
        return self.initializer.taken(weight)

    def resolve(self, weight: Weight) -> Blocks:
        row = self.row + weight.shape[0] if self.row < 0 else self.row
        if not 0 <= row < weight.shape[0]:
            raise ValueError(f"padded: row {self.row} is outside of shape {tuple(weight.shape)}")
        blocks = self.initializer.resolve(weight)
        last = max(block.wave for block in blocks)
        return (*blocks, Block(Constant(0.0), (row, row + 1), last + 1))

    def target_std(self, weight: Weight) -> float | None:
        return self.initializer.target_std(weight)


@register("centred")
@dataclass(frozen=True)
class Centred(Initializer):
    """Weights that do not see the mean of their inputs: those of another initializer, less a mean.

    From each output's weights their mean over the inputs is subtracted, at each tap of a convolution, so
    that zeros around an image change nothing. Where the inputs stand is what the other initializer takes
    (``transposed``, ``batch_dims``), or else what the weight's layer says. What is left is multiplied by sqrt(n / (n - 1)), with n
    inputs, which keeps the variance. The values depend on those of the other initializer alone, by sums
    in a fixed order.

    Attributes:
        initializer: what draws the weights

    Raises:
        ValueError: if ``resolve`` gets a weight with fewer than 2 inputs in a group, or the initializer
            draws nothing.

    References:
        Huang et al. (2017), `Centered weight normalization in accelerating training of deep neural
        networks`.

    Example:
        >>> import torch, pyinit
        >>> from pyinit.initializers import Centred, LecunNormal
        >>> layer = torch.nn.Linear(100, 10)
        >>> _ = pyinit.initialize_(layer, rules={"weight": Centred(LecunNormal())}, seed=0)
        >>> bool(layer.weight.sum(1).abs().max() < 1e-5)
        True
    """

    initializer: Initializer

    def taken(self, weight: Weight) -> Weight:
        return self.initializer.taken(weight)

    def resolve(self, weight: Weight) -> Blocks:
        blocks = self.initializer.resolve(weight)
        taken = self.taken(weight)
        if not can_be_centred(taken):
            raise ValueError(
                f"centred needs at least 2 inputs in a group, got shape {tuple(taken.shape)} in "
                f"{taken.groups} groups"
            )
        if not blocks:
            raise ValueError(f"centred needs an initializer that draws, got {self.initializer}")
        last = max(block.wave for block in blocks)
        centring = Centring(taken.groups, taken.transposed, taken.batch_dims)
        return (*blocks, Block(centring, None, last + 1))

    def target_std(self, weight: Weight) -> float | None:
        return self.initializer.target_std(weight)


def can_be_centred(weight: Weight) -> bool:
    """Whether each output of a weight has at least two inputs, at each tap of a convolution.

    Args:
        weight: the weight's shape and layout

    Returns:
        False for vectors and depthwise convolutions, where ``Centred`` raises ValueError.

    Example:
        >>> from pyinit.initializers import Weight, can_be_centred
        >>> can_be_centred(Weight((8, 4, 3, 3))), can_be_centred(Weight((8, 1, 3, 3), groups=8))
        (True, False)
    """
    shape = weight.shape[weight.batch_dims :]
    if len(shape) < 2:
        return False
    inputs = shape[0] // weight.groups if weight.transposed else shape[1]
    return inputs > 1


@dataclass(frozen=True)
class Centring(Drawn):
    """What ``Centred`` does to weights that are there.

    Attributes:
        groups: the groups of the weight's layer
        transposed: whether the inputs stand before the outputs
        batch_dims: how many dimensions in front only count weights
    """

    groups: int = 1
    transposed: bool = False
    batch_dims: int = 0
    name = "centring"
    is_random = False

    @torch.no_grad()
    def fill_(self, tensor: Tensor, source: Source = None) -> None:
        if tensor.is_meta:
            return
        # Weights that are counted stand behind the inputs, where outputs and taps are.
        counts = range(self.batch_dims)
        weights = tensor.detach().movedim((*counts,), (*(i - self.batch_dims for i in counts),))
        for inputs_first in (
            weights.chunk(self.groups) if self.transposed else (weights.movedim(1, 0),)
        ):
            for piece in _pieces(inputs_first):
                values = piece.to(torch.float64)
                count = len(values)
                values = (values - _sum(values) / count) * math.sqrt(count / (count - 1))
                piece.copy_(values)

    def fill_by_torch_(self, tensor: Tensor) -> None:
        self.fill_(tensor)

    def target_std(self, weight: Weight) -> float | None:
        return None


_AT_ONCE = 1 << 20


def _pieces(weight: Tensor) -> Iterator[Tensor]:
    """Parts of a weight, all inputs of some outputs, of about as many elements as are worked on at once."""
    of_an_output = max(1, weight.numel() // max(1, weight.shape[1]))
    return iter(torch.split(weight, max(1, _AT_ONCE // of_an_output), dim=1))


def _sum(x: Tensor) -> Tensor:
    """The sum over dim 0, in an order that the size alone decides: halves are added again and again."""
    while len(x) > 1:
        half = len(x) // 2
        added = x[:half] + x[half : 2 * half]
        x = torch.cat((added, x[2 * half :]))
    return x[0]


@register("keep")
@dataclass(frozen=True)
class Keep(Initializer):
    """Nothing is filled: the values that are there stay.

    Example:
        >>> import torch, pyinit
        >>> layer = torch.nn.Linear(3, 2)
        >>> before = layer.bias.tolist()
        >>> _ = pyinit.initialize_(layer, rules={"bias": pyinit.initializers.Keep()}, seed=0)
        >>> layer.bias.tolist() == before
        True
    """

    def resolve(self, weight: Weight) -> Blocks:
        return ()


@register("own_reset")
@dataclass(frozen=True)
class OwnReset(Initializer):
    """The model's own ``reset_parameters`` or ``_init_weights``, with the generators seeded from the key.

    Recipes choose it for parameters that they do not know.

    Example:
        >>> import torch, pyinit
        >>> class Scale(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.factor = torch.nn.Parameter(torch.empty(2))
        ...     def reset_parameters(self):
        ...         torch.nn.init.constant_(self.factor, 0.1)
        >>> scale = Scale()
        >>> report = pyinit.initialize_(scale, "torch", seed=0)
        >>> report["factor"].initializer, scale.factor.tolist() == [torch.tensor(0.1).item()] * 2
        (OwnReset(), True)
    """

    def resolve(self, weight: Weight) -> Blocks:
        return ()
