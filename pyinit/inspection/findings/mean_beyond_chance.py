"""Means that are not 0."""

from collections.abc import Iterator

from pyinit.inspection.findings.finding import Found, kind
from pyinit.inspection.subject import BY_CHANCE, Item, Subject, plain

# A mean below this share of the standard deviation is rounding's: torch's uniform numbers in bfloat16
# are 0.007 of it too low.
_LEAST = 0.02


@kind("PI105", "mean beyond chance")
def mean_beyond_chance(subject: Subject) -> Iterator[Found]:
    """A weight whose mean is farther from 0 than chance allows for its size.

    All outputs of the layer get the same part, the mean of the inputs times their number: units begin
    alike. A uniform distribution on [0, 1), which is what `torch.rand` gives, is the usual cause. The
    finding gives the mean in standard errors, z. In a checkpoint it is only possible: training moves
    means.

    ```python
    import pyinit
    import torch
    from torch import nn

    model = nn.Linear(64, 64)
    with torch.no_grad():
        model.weight.copy_(torch.rand(64, 64) / 8)
    findings = pyinit.check(model)
    ```

    ```python
    import pyinit
    from torch import nn

    model = nn.Linear(64, 64)
    nn.init.uniform_(model.weight, -0.125, 0.125)
    findings = pyinit.check(model)
    ```
    """
    for item in subject.items:
        one = item.statistics
        if one is None or not item.is_matrix or not item.is_finite or not one.std > 0:
            continue
        if not item.is_known or (item.site is not None and not item.tensor.requires_grad):
            continue  # a table that is computed, say
        if abs(item.z) > BY_CHANCE and abs(one.mean) > _LEAST * one.std and not item.is_structured:
            yield (
                item.name,
                f"mean {plain(one.mean)} at std {plain(one.std)}: z = {item.z:.1f}",
                f"a mean within {plain(BY_CHANCE)} standard errors of 0",
                "it gives all outputs of the layer the same part",
                "likely" if _should_be_centred(item, subject) else "possible",
            )


def _should_be_centred(item: Item, subject: Subject) -> bool:
    return item.is_weight and subject.expected(item) is not None
