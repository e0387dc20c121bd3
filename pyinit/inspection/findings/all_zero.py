"""Weights that are zero."""

from collections.abc import Iterator

from pyinit.inspection.findings.finding import Found, kind
from pyinit.inspection.subject import Item, Subject


@kind("PI104", "all-zero weight")
def all_zero(subject: Subject) -> Iterator[Found]:
    """A weight of zeros that does not end a residual branch, and is no head.

    No signal passes through the layer, and no gradient reaches the layers before it. At the end of a
    residual branch zeros are meant: the block starts as the identity. In a head they are meant, too,
    and in layers beside the main path, where this finding is only possible.

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
        one = item.statistics
        if one is None or not item.is_matrix or one.zeros < one.count or not one.count:
            continue
        if not item.is_known:
            continue
        if item.path in subject.branch_ends or item.path in subject.graph.heads:
            continue
        yield (
            item.name,
            f"all {one.count} elements are 0",
            "random values",
            "no signal passes, and no gradient reaches what comes before",
            "likely" if _is_on_the_way(item, subject) else "possible",
        )


def _is_on_the_way(item: Item, subject: Subject) -> bool:
    """Whether it is a layer that others follow and that no sum passes by: by a trace of the model."""
    depth = subject.graph.depth.get(item.path, 0)
    is_passed_by = item.path in subject.in_branches
    return (
        item.is_weight and not is_passed_by and (depth > 1 or item.path in subject.graph.activation)
    )
