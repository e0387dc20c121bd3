"""Weights of the wrong size."""

import math
from collections.abc import Iterator

from pyinit.inspection.findings.finding import Found, kind
from pyinit.inspection.subject import Item, Subject, expected_std, plain

_LEAST_COUNT = 32  # elements that tell a standard deviation
_USUAL = 4.0  # times the expected standard deviation, or a part of it, that programs do well with
_TOO_LARGE = 8.0
_TOO_SMALL = 1 / 200


@kind("PI106", "unsuitable standard deviation")
def unsuitable_std(subject: Subject) -> Iterator[Found]:
    """A weight whose standard deviation is far from what its layer, and what follows it, want.

    Signals grow or shrink by the same factor at each such layer. What is wanted is what the recipe
    `auto` would give. Four times that, or a fourth, is still left alone, and eight times that, or a two
    hundredth, is still only possible. Small weights next to a norm, in a residual branch, or of a gate that
    its bias holds open do no harm, and in a head the smaller, the nearer the first loss is to chance.

    ```python
    import pyinit
    from torch import nn

    model = nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
    nn.init.normal_(model[0].weight)
    findings = pyinit.check(model)
    ```

    ```python
    import pyinit
    from torch import nn

    model = nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
    nn.init.kaiming_normal_(model[0].weight, nonlinearity="relu")
    findings = pyinit.check(model)
    ```
    """
    for item in subject.items:
        one = item.statistics
        if one is None or not item.is_weight or not item.is_finite or not item.is_matrix:
            continue
        choice = subject.expected(item)
        wanted = None if choice is None else expected_std(choice.initializer, item.weight)
        if choice is None or not wanted or one.count < _LEAST_COUNT or one.zeros == one.count:
            continue
        if item.is_structured or item.tied:
            continue  # identities and the like; tied ones are PI111's
        ratio = one.std / wanted
        least = _least(item, subject)
        # The last layers of branches do without the scaling by depth that "auto" gives them.
        depth = math.sqrt(subject.branch_ends.get(item.path, 1))
        if not least <= ratio <= _USUAL * depth:
            yield (
                item.name,
                f"std {plain(one.std)}, {ratio:.2g} times what is wanted",
                f"std {plain(wanted)}, as {choice.initializer} gives",
                choice.why,
                "possible" if _TOO_SMALL <= ratio <= _TOO_LARGE * depth else "likely",
            )


def _least(item: Item, subject: Subject) -> float:
    """The part of the expected standard deviation that does no harm.

    Logits had better begin small, as may a gate that a constant bias holds open. A norm, or the
    stream that a branch is added to, makes up for a weight that is not too small.
    """
    graph = subject.graph
    if item.path in graph.heads or _is_held_open(item, subject):
        return 0.0
    is_made_up_for = (
        item.path in graph.norms or item.path in graph.attention or item.path in subject.in_branches
    )
    return _TOO_SMALL if is_made_up_for else 1 / _USUAL


def _is_held_open(item: Item, subject: Subject) -> bool:
    bias = subject.by_name.get(f"{item.path}.bias")
    return (
        bias is not None
        and bias.is_constant
        and bias.statistics is not None
        and bias.statistics.min > 0
    )
