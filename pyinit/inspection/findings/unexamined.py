"""Parameters that nothing can be said of."""

from collections.abc import Iterator

from pyinit.inspection.findings.finding import Found, kind
from pyinit.inspection.subject import Subject


@kind("PI007", "not examined", is_informational=True)
def unexamined(subject: Subject) -> Iterator[Found]:
    """A parameter or buffer whose elements are not here to be looked at: quantized or sparse ones,
    shards, those that another library has taken away.

    ```python
    import pyinit
    import torch
    from torch import nn

    model = nn.Linear(8, 8)
    model.register_buffer("edges", torch.eye(8).to_sparse())
    findings = pyinit.check(model)
    ```

    Check the model before it is sharded or quantized:

    ```python
    import pyinit
    from torch import nn

    model = nn.Linear(8, 8)
    findings = pyinit.check(model)
    ```
    """
    for item in subject.items:
        if item.reason is not None:
            yield (
                item.name,
                item.reason,
                "a plain tensor",
                "nothing can be said of its elements",
                "certain",
            )
