"""Buffers that the constructor alone writes."""

from collections.abc import Iterator

from pyinit.inspection.findings.finding import Found, kind
from pyinit.inspection.subject import Subject


@kind("PI005", "written by the constructor alone", is_informational=True)
def left_to_constructor(subject: Subject) -> Iterator[Found]:
    """A buffer that the constructor writes, and `init` does not; or a parameter that
    `pyinit.initialize_`, as `init`, reports to have left as it was.

    That is as it should be until the model is built on the meta device: `to_empty()` leaves it
    without its values, and `init` does not bring them back.

    ```python
    import pyinit
    import torch
    from torch import nn

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 8)
            self.register_buffer("scale", torch.full((8,), 0.5))

    findings = pyinit.check(Model, "reset_parameters")
    ```

    Let `init` write it, too:

    ```python
    import pyinit
    import torch
    from torch import nn

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 8)
            self.register_buffer("scale", torch.empty(8))
            self.reset_parameters()

        def reset_parameters(self):
            self.scale.fill_(0.5)

    findings = pyinit.check(Model, "reset_parameters")
    ```
    """
    for item in subject.items:
        if item.is_left_to_constructor:
            yield (
                item.name,
                "init does not write it, and leaves what the constructor or a file gave it",
                "values from init, too, if the model is ever built on the meta device",
                "to_empty() takes its values away",
                "certain",
            )
