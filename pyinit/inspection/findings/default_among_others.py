"""Layers that are as torch's constructor leaves them, among others that are not."""

import math
import re
from collections import Counter
from collections.abc import Iterator

from pyinit.inspection.findings.finding import Confidence, Found, kind
from pyinit.inspection.subject import Item, Subject, plain

_LEAST_COUNT = 64  # elements that tell a distribution
_LEAST_OTHERS = 2


@kind("PI112", "default among others")
def default_among_others(subject: Subject) -> Iterator[Found]:
    """A layer with the values that its constructor gives, in a model whose other layers of that type
    have been initialized otherwise.

    The usual cause is a head that is replaced after the model was initialized, for another number
    of classes, or a layer that is added and that the model's initialization does not reach. Of layers that
    are no head, or that every block has, or that `init` itself has drawn, it is only possible: some models
    draw these as torch does.

    ```python
    import pyinit
    from torch import nn

    def build():
        model = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 9))
        for layer in model[::2]:
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        model[4] = nn.Linear(64, 3)
        return model

    findings = pyinit.check(build)
    ```

    Initialize after the last change:

    ```python
    import pyinit
    from torch import nn

    def build():
        model = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 9))
        model[4] = nn.Linear(64, 3)
        for layer in model[::2]:
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        return model

    findings = pyinit.check(build)
    ```
    """
    by_type: dict[type, list[Item]] = {}
    last = None
    for item in subject.layers:
        last = item
        if item.tensor.numel() >= _LEAST_COUNT and not item.tied and not item.is_structured:
            by_type.setdefault(type(item.module), []).append(item)
    for cls, items in by_type.items():
        default = [item for item in items if _is_default(item)]
        others = [item for item in items if item not in default]
        if not default or len(others) < max(_LEAST_OTHERS, len(default)):
            continue
        in_each_block = Counter(map(_place, default)) - Counter(map(_place, others))
        for item in default:
            is_head = item.path in subject.graph.heads or item is last
            is_meant = in_each_block[_place(item)] > 1 or not is_head or item.is_written_by_init
            confidence = _confidence(item, others, subject, is_meant)
            if confidence is not None:
                yield (
                    item.name,
                    f"uniform within {plain(_bound(item))}, as {cls.__name__}'s constructor gives",
                    f"an initialization like that of the {len(others)} other layers of its type",
                    "a layer made after the model was initialized is not initialized",
                    confidence,
                )


def _bound(item: Item) -> float:
    """Of torch's default, U(-1 / sqrt(fan_in), 1 / sqrt(fan_in)), with fans by the shape alone."""
    return 1 / math.sqrt(math.prod(item.shape[1:]))


def _is_default(item: Item) -> bool:
    """By the largest and the variance: a normal or another uniform distribution has others."""
    one, bound = item.statistics, _bound(item)
    assert one is not None
    largest = max(-one.min, one.max)
    noise = 4 * math.sqrt(0.2 / one.count)  # of a uniform's standard deviation, relative to it
    rounding = 0.01
    return (
        bound * (1 - 20 / one.count - rounding) <= largest <= bound * (1 + rounding)
        and abs(one.std * math.sqrt(3) / bound - 1) < noise + rounding
        and abs(one.kurtosis + 1.2) < 0.1 + 4 / math.sqrt(one.count)
    )


def _place(item: Item) -> str:
    """The name that it has in every block."""
    return re.sub(r"\d+", "#", item.name)


def _confidence(
    item: Item, others: list[Item], subject: Subject, is_meant: bool
) -> Confidence | None:
    """By the biases: torch draws them, and nearly all others set them to 0."""
    bias = subject.by_name.get(f"{item.path}.bias")
    their_biases = [subject.by_name.get(f"{other.path}.bias") for other in others]
    if bias is None or bias.statistics is None:
        return "possible"
    if bias.is_constant and bias.tensor.numel() > 1:
        return None  # somebody has set it
    is_zero = [b is None or b.statistics is None or b.is_constant for b in their_biases]
    return "likely" if all(is_zero) and not is_meant else "possible"
