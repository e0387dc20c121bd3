"""Weights that are zero."""

from collections.abc import Iterator

from pyinit.inspection.findings.finding import Found, kind
from pyinit.inspection.subject import Item, Subject


@kind("PI104", "all-zero weight")
def all_zero(subject: Subject) -> Iterator[Found]:
    """A weight of zeros that does not end a residual branch, and is no head.

    No signal passes through the layer, and no gradient reaches the layers before it. At the end of a
    residual branch zeros are meant: the block starts as the identity. In a head they are meant, too,
    and in layers beside the main path and in gates, where this finding is only possible. But where the
    last layer of a branch is zero, and another one in the branch, too, neither ever gets a gradient.

    ```python
    import pyinit
    from torch import nn

    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    nn.init.zeros_(model[2].weight)
    findings = pyinit.check(model)
    ```

    ```python
    import pyinit
    from torch import nn

    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    nn.init.kaiming_normal_(model[2].weight)
    findings = pyinit.check(model)
    ```
    """
    for item in subject.items:
        if not _is_zero(item) or not item.is_matrix or not item.is_known:
            continue
        if item.path in subject.branch_ends or item.path in subject.graph.heads:
            continue
        last = _zero_end(item, subject)
        why = "no signal passes, and no gradient reaches what comes before"
        if last is not None:
            why = f"{last.name} is 0, too, and of two zeros in a row neither ever gets a gradient"
        yield (
            item.name,
            f"all {item.tensor.numel()} elements are 0",
            "random values",
            why,
            "likely" if last is not None or _is_on_the_way(item, subject) else "possible",
        )


def _is_zero(item: Item) -> bool:
    one = item.statistics
    return one is not None and 0 < one.count == one.zeros


def _zero_end(item: Item, subject: Subject) -> Item | None:
    """The last layer of the branch that the layer is in, if it is zero, and no bias makes up for this one.

    Queries or keys may be zero: their scores are then equal, and the values pass.
    """
    if item.path in subject.graph.attention:
        return None
    bias = subject.by_name.get(f"{item.path}.bias")
    if bias is not None and not _is_zero(bias):
        return None
    for branch in subject.graph.branches:
        if item.path in branch.layers[:-1]:
            last = subject.by_name.get(f"{branch.layers[-1]}.weight")
            if last is not None and _is_zero(last):
                return last
    return None


def _is_on_the_way(item: Item, subject: Subject) -> bool:
    """Whether it is a layer that others follow and that no sum passes by: by a trace of the model."""
    depth = subject.graph.depth.get(item.path, 0)
    activation = subject.graph.activation.get(item.path)
    is_passed_by = item.path in subject.in_branches
    # Alone before a sigmoid it is a gate or a router, which starts half open or without preference.
    is_followed = activation is not None and activation.nonlinearity != "sigmoid"
    return item.is_weight and not is_passed_by and (depth > 1 or is_followed)
