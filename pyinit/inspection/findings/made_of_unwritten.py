"""Parameters that are computed from what the memory held."""

from collections.abc import Iterator

from pyinit.inspection.findings.finding import Found, kind
from pyinit.inspection.subject import Subject


@kind("PI003", "computed from unwritten memory")
def made_of_unwritten(subject: Subject) -> Iterator[Found]:
    """A parameter or buffer that the initialization computes from what its memory held before.

    A scale that is applied to a weight that nobody has drawn is the usual case.

    ```python
    import pyinit
    import torch
    from torch import nn

    @torch.no_grad()
    def init(layer):
        layer.weight.mul_(0.1)
        nn.init.zeros_(layer.bias)

    findings = pyinit.check(nn.Linear(8, 8), init)
    ```

    Draw it first:

    ```python
    import pyinit
    import torch
    from torch import nn

    @torch.no_grad()
    def init(layer):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
        layer.weight.mul_(0.5)
        nn.init.zeros_(layer.bias)

    findings = pyinit.check(nn.Linear(8, 8), init)
    ```
    """
    for item in subject.items:
        if item.writing is not None and item.writing.computed:
            yield (
                item.name,
                f"{item.writing.computed} of {item.writing.elements} elements depend on what was there",
                "values that do not",
                "no other run gives the same",
                "certain",
            )
