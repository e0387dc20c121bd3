"""Matrices of one value."""

from collections.abc import Iterator

from pyinit.inspection.findings.finding import Found, kind
from pyinit.inspection.subject import Subject, plain


@kind("PI103", "constant matrix")
def constant_matrix(subject: Subject) -> Iterator[Found]:
    """A weight whose elements are all the same number, and not 0.

    All units of the layer compute the same, get the same gradient, and stay the same.

    ```python
    import pyinit
    from torch import nn

    model = nn.Linear(8, 8)
    nn.init.constant_(model.weight, 0.1)
    findings = pyinit.check(model)
    ```

    Draw random numbers:

    ```python
    import pyinit
    from torch import nn

    model = nn.Linear(8, 8)
    nn.init.kaiming_normal_(model.weight, nonlinearity="linear")
    findings = pyinit.check(model)
    ```
    """
    for item in subject.items:
        one = item.statistics
        if one is None or not item.is_matrix or not item.is_finite:
            continue
        if item.is_constant and one.min != 0:
            yield (
                item.name,
                f"all {one.count} elements are {plain(one.min)}",
                "different values",
                "units that start alike learn alike",
                "certain" if item.is_weight else "possible",
            )
