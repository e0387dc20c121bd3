"""Values that are not finite."""

from collections.abc import Iterator

from pyinit.inspection.findings.finding import Found, kind
from pyinit.inspection.subject import Subject


@kind("PI101", "not finite")
def not_finite(subject: Subject) -> Iterator[Found]:
    """A parameter with NaN or infinite elements.

    A single NaN makes everything NaN that is computed from it. Buffers may hold infinities, as masks do.

    ```python
    import pyinit
    import torch
    from torch import nn

    model = nn.Linear(8, 8)
    with torch.no_grad():
        model.weight[0, 0] = float("nan")
    findings = pyinit.check(model)
    ```

    ```python
    import pyinit
    from torch import nn

    findings = pyinit.check(nn.Linear(8, 8))
    ```
    """
    for item in subject.items:
        one = item.statistics
        if one is not None and item.is_parameter and one.nonfinite:
            yield (
                item.name,
                f"{one.nonfinite} of {one.count} elements are NaN or infinite",
                "finite numbers",
                "all that is computed from them is not finite either",
                "certain",
            )
