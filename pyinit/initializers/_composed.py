"""Initializers that are made of others, and those that leave the values to somebody else."""

from dataclasses import dataclass

from pyinit.initializers._base import Block, Blocks, Initializer, Weight, register
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
