"""Scales of norms that are not 1."""

from collections.abc import Iterator

from pyinit.inspection.findings.finding import Confidence, Found, kind
from pyinit.inspection.statistics import Statistics
from pyinit.inspection.subject import Item, Subject, plain
from pyinit.whole_model.recipes.roles import Role


@kind("PI109", "norm scale")
def norm_scale(subject: Subject) -> Iterator[Found]:
    """The scale of a norm that does not start at 1: at 0, where the norm adds 1 to it.

    What the norm has made of size 1 is of another size again. At the end of a residual branch a scale
    of 0 is meant. Scales around 1 that differ are those of a trained model, and only possible.

    ```python
    import pyinit
    from torch import nn

    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8))
    nn.init.normal_(model[1].weight, std=0.02)
    findings = pyinit.check(model)
    ```

    ```python
    import pyinit
    from torch import nn

    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8))
    nn.init.ones_(model[1].weight)
    findings = pyinit.check(model)
    ```
    """
    for item in subject.items:
        one = item.statistics
        if one is None or not item.is_norm_scale or not item.is_finite or not one.count:
            continue
        wanted = _wanted(item, subject)
        if item.is_constant and one.min == wanted:
            continue
        if item.is_constant and one.min == 0 and item.path in subject.last_norms:
            continue
        found = (
            f"all {one.count} elements are {plain(one.min)}"
            if item.is_constant
            else f"values from {plain(one.min)} to {plain(one.max)}"
        )
        yield (
            item.name,
            found,
            f"{wanted:g} everywhere",
            "a norm's output is of size 1, and the scale changes that",
            _confidence(item, one, wanted),
        )


def _wanted(item: Item, subject: Subject) -> float:
    choice = subject.expected(item)
    if choice is not None:
        blocks = choice.initializer.resolve(item.weight)
        value = getattr(blocks[0].drawn, "val", None) if len(blocks) == 1 else None
        if value is not None:
            return float(value)
    return 0.0 if item.use is not None and item.use.role is Role.SCALE_LESS_1 else 1.0


def _confidence(item: Item, one: Statistics, wanted: float) -> Confidence:
    if item.site is None:
        return "possible"  # of a checkpoint, which is trained
    is_near = abs(one.mean - wanted) < 0.5 and one.std < 0.5
    return "possible" if is_near and not item.is_constant else "likely"
