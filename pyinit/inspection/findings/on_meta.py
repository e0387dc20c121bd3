"""Parameters without memory."""

from collections.abc import Iterator

from pyinit.inspection.findings.finding import Found, kind
from pyinit.inspection.subject import Subject


@kind("PI004", "still on the meta device")
def on_meta(subject: Subject) -> Iterator[Found]:
    """A parameter or buffer that is on the meta device, where tensors have no memory.

    The functions of `torch.nn.init` do nothing to it, and say nothing.

    ```python
    import pyinit
    import torch
    from torch import nn

    with torch.device("meta"):
        model = nn.Linear(8, 8)
    findings = pyinit.check(model, "reset_parameters")
    ```

    Give it memory first; `pyinit.initialize_` does so by itself:

    ```python
    import pyinit
    import torch
    from torch import nn

    with torch.device("meta"):
        model = nn.Linear(8, 8)
    model.to_empty(device="cpu")
    findings = pyinit.check(model, "reset_parameters")
    ```
    """
    for item in subject.items:
        if item.tensor.is_meta and item.reason is None:
            yield (
                item.name,
                "on the meta device",
                "memory with values",
                "initializers do nothing to a tensor without memory",
                "certain",
            )
