"""What is measured at one call of a layer."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

from pyinit.inspection.histogram import Histogram, read_histogram
from pyinit.reports.stored import read

NAN = math.nan


@dataclass(frozen=True)
class Forward:
    """What a call of a layer puts out. What cannot be told is NaN.

    Args:
        count: the number of values
        mean: their mean
        std: their standard deviation
        skewness: their third standardized moment
        kurtosis: their fourth standardized moment less 3
        min: the least value
        max: the greatest value
        nonfinite: the number of values that are infinite or NaN
        zeros: the share of values that are 0
        saturated: of an activation with bounds, the share of values where its slope is below 8% of the
            greatest
        dead: the share of units that are 0 for the whole batch
        units: the number of values for one sample
        total_variance: the sum over the units of the variance over the samples
        mean_cosine: the mean cosine of the angle between two samples
        effective_rank: the participation ratio of the samples' covariance, between 1 and the number of
            samples less one
        histogram: that of at most 8192 of the values; None if none is finite
        expected_std: what mean-field theory expects ``std`` to be, from the inputs on; NaN where the model
            is no plain chain
        expected_cosine: what it expects ``mean_cosine`` to be
        chi: by how much it expects a layer with weights to multiply small differences from the layer before
    """

    count: int
    mean: float = NAN
    std: float = NAN
    skewness: float = NAN
    kurtosis: float = NAN
    min: float = NAN
    max: float = NAN
    nonfinite: int = 0
    zeros: float = NAN
    saturated: float = NAN
    dead: float = NAN
    units: int = 0
    total_variance: float = NAN
    mean_cosine: float = NAN
    effective_rank: float = NAN
    histogram: Histogram | None = None
    expected_std: float = NAN
    expected_cosine: float = NAN
    chi: float = NAN

    @property
    def variance(self) -> float:
        """The variance of a unit over the samples, on average; with one sample that of all values."""
        one_sample = self.units == self.count or not self.units
        return self.std * self.std if one_sample else self.total_variance / self.units


@dataclass(frozen=True)
class Backward:
    """The gradient of the loss by what a call puts out.

    Args:
        mean: the mean of its values
        std: their standard deviation
        zeros: the share of values that are 0
        nonfinite: the number of values that are infinite or NaN
        jacobian: the squared norm of the Jacobian of the model's output by what this call puts out,
            over that by what the next call of a layer with weights puts out: 1 is ideal
    """

    mean: float = NAN
    std: float = NAN
    zeros: float = NAN
    nonfinite: int = 0
    jacobian: float = NAN


@dataclass(frozen=True)
class WeightRow:
    """The weight of a layer, and the gradient of the loss by it.

    Args:
        name: its qualified name
        shape: its shape
        norm: its Euclidean norm
        mean: the mean of its elements
        std: their standard deviation
        expected_std: the standard deviation that the recipe aims at
        initializer: what the recipe filled it with; "" for a weight as it was
        fan_in: the number of inputs of an output; 0 if it is no matrix
        copies: the number of rows that are equal to another row, and not 0
        nonfinite: the number of elements that are infinite or NaN
        gradient_std: the standard deviation of the gradient
        gradient_norm: its norm; NaN if the weight got none
        trained: whether it asks for gradients
        largest, smallest: the extreme singular values of the weight as a matrix
        update_ratio: the norm of a training step's update over that of the weight, the median over steps
        distance: the distance from the start after the steps, over the norm at the start
    """

    name: str
    shape: tuple[int, ...]
    norm: float = NAN
    mean: float = NAN
    std: float = NAN
    expected_std: float = NAN
    initializer: str = ""
    fan_in: int = 0
    copies: int = 0
    nonfinite: int = 0
    gradient_std: float = NAN
    gradient_norm: float = NAN
    trained: bool = True
    largest: float = NAN
    smallest: float = NAN
    update_ratio: float = NAN
    distance: float = NAN

    @property
    def gradient_to_weight(self) -> float:
        """The norm of the gradient over that of the weight."""
        return self.gradient_norm / self.norm if self.norm > 0 else NAN

    @property
    def gain(self) -> float:
        """The standard deviation times the square root of the fan-in; NaN if it is no matrix."""
        return self.std * math.sqrt(self.fan_in) if self.fan_in else NAN


@dataclass(frozen=True)
class LayerRow:
    """One call of a layer, under one recipe.

    Args:
        recipe: the recipe; "" for the weights as they were
        name: the layer's name
        call: 1 for its first call, 2 for its second
        kind: such as "linear", "conv", "norm", "activation"
        module: the name of the module's class
        activation: the name of an activation, "" of anything else
        shape: that of what it puts out
        forward: what it puts out
        backward: the gradient by that; None if none came
        weight: its weight; None if it has no parameters
        finite_inputs: whether all that came into it was finite
    """

    recipe: str
    name: str
    call: int
    kind: str
    module: str
    activation: str
    shape: tuple[int, ...]
    forward: Forward
    backward: Backward | None = None
    weight: WeightRow | None = None
    finite_inputs: bool = True

    @property
    def label(self) -> str:
        """The name, and the number of the call if it is not the first."""
        return (self.name or "(model)") + (f" #{self.call}" if self.call > 1 else "")

    def to_record(self) -> dict[str, Any]:
        """All numbers under plain names, such as ``"forward_std"``."""
        own = {name: getattr(self, name) for name in _OWN}
        parts = {"forward": self.forward, "backward": self.backward, "weight": self.weight}
        kinds = {"forward": Forward, "backward": Backward, "weight": WeightRow}
        for part, value in parts.items():
            for field in fields(kinds[part]):
                if field.name == "histogram":  # no number
                    continue
                own[f"{part}_{field.name}"] = getattr(value, field.name, None)
        own["weight_gradient_to_weight"] = getattr(self.weight, "gradient_to_weight", None)
        return own

    def to_dict(self) -> dict[str, Any]:
        """The row as values that JSON has: None in place of NaN and infinity."""
        found: dict[str, Any] = _plain(asdict(self))
        return found

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> "LayerRow":
        """The row that ``to_dict`` made the values from."""
        forward, weight, backward = value["forward"], value["weight"], value["backward"]
        counted = read_histogram(forward.get("histogram"))
        return read(
            cls,
            value,
            forward=read(Forward, forward, histogram=counted),
            backward=None if backward is None else read(Backward, backward),
            weight=None if weight is None else read(WeightRow, weight),
        )


_OWN = ("recipe", "name", "call", "kind", "module", "activation", "shape", "finite_inputs")


class Look(NamedTuple):
    """All that one pass under one recipe has shown.

    recipe: the recipe; "" for the weights as they were
    rows: a row for each call, in the order of execution
    loss: the loss; NaN if there was none
    classes: the number of classes if the loss is a cross-entropy, or else 0
    unused: layers that took no part
    frozen: parameters that ask for no gradient
    quantized: modules whose weights are integers
    steps: how many steps of training were taken
    optimizer: the optimizer that was asked for; "" for the one by default
    """

    recipe: str
    rows: tuple[LayerRow, ...]
    loss: float = NAN
    classes: int = 0
    unused: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    quantized: tuple[str, ...] = ()
    steps: int = 0
    optimizer: str = ""

    def with_weights(self) -> list[LayerRow]:
        """The calls that multiply by a matrix."""
        kinds = ("linear", "conv", "recurrent", "other")
        return [r for r in self.rows if r.kind in kinds and r.weight and len(r.weight.shape) > 1]

    def follows(self, row: LayerRow) -> str:
        """The activation behind a layer; "" if there is none."""
        for after in self._after(row):
            if after.activation:
                return after.activation
            if after.kind != "norm":
                break
        return ""

    def _after(self, row: LayerRow) -> Iterator[LayerRow]:
        index = next(i for i, each in enumerate(self.rows) if each is row)
        yield from self.rows[index + 1 :]


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, (tuple, list)) else value
