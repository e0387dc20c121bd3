"""What is recorded of a layer at a step."""

import dataclasses
from dataclasses import dataclass


@dataclass(frozen=True)
class Record:
    """A layer at a step.

    What it says of activations is pooled over all calls of the layer that gradients of this step came
    back through. What it says of parameters is of all that the layer owns itself, taken together as one
    vector. A value is None where there is nothing to measure, and NaN or infinite where training is.

    Args:
        step: how many steps the optimizer had made before this one, since the monitor began
        layer: the layer's qualified name, ``""`` for the model itself
        calls: how often the layer was called
        mean: the mean of its outputs
        variance: their variance
        total_variance: the sum over units of the variance over the samples of a batch, which is the
            trace of the covariance; the mean over calls, weighted by samples
        dead: the share of its channels that were zero in all samples and at all positions
        output_gradient_std: the standard deviation of the loss's gradient by its outputs
        gradient_norm: the norm of the gradient by its parameters, as the optimizer's step got it
        unclipped_norm: the same as the backward pass left it, before anything clipped it
        weight_norm: the norm of its parameters before the step
        update_ratio: the norm of the step's change of those parameters that the optimizer has, over
            their norm
        distance: the norm of the parameters' difference from the initial ones, over the norm of these,
            before the step

    Example:
        >>> import dataclasses
        >>> from pyinit.inspection.monitor import Record
        >>> record = Record(step=0, layer="head", calls=1, variance=4.0, update_ratio=0.001)
        >>> record.variance**0.5, record.distance
        (2.0, None)
        >>> dataclasses.asdict(record)["layer"]
        'head'
    """

    step: int
    layer: str
    calls: int
    mean: float | None = None
    variance: float | None = None
    total_variance: float | None = None
    dead: float | None = None
    output_gradient_std: float | None = None
    gradient_norm: float | None = None
    unclipped_norm: float | None = None
    weight_norm: float | None = None
    update_ratio: float | None = None
    distance: float | None = None


COLUMNS = tuple(field.name for field in dataclasses.fields(Record))
MEASURED = COLUMNS[COLUMNS.index("calls") + 1 :]
