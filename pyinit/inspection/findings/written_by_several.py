"""Parameters that several modules write."""

from collections.abc import Iterator

from pyinit.inspection.findings.finding import Found, kind
from pyinit.inspection.subject import Subject


@kind("PI006", "written by several modules", is_informational=True)
def written_by_several(subject: Subject) -> Iterator[Found]:
    """A parameter or buffer that several modules write in one initialization: the last one wins.

    It is found where `init` is `"reset_parameters"`, or goes through `Module.apply`. Often it is meant:
    a model scales what its layers have drawn. But an order of modules that changes then changes the
    weights.

    ```python
    import pyinit
    from torch import nn

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def reset_parameters(self):
            nn.init.xavier_uniform_(self.layer.weight)

    findings = pyinit.check(Block, "reset_parameters")
    ```

    Let each module write what it owns:

    ```python
    import pyinit
    from torch import nn

    class Layer(nn.Linear):
        def reset_parameters(self):
            nn.init.xavier_uniform_(self.weight)
            nn.init.zeros_(self.bias)

    findings = pyinit.check(lambda: nn.Sequential(Layer(8, 8)), "reset_parameters")
    ```
    """
    for item in subject.items:
        if item.writers:
            yield (
                item.name,
                f"written by {len(item.writers)} modules: {', '.join(item.writers)}",
                "one that writes it",
                "the last one wins",
                "certain",
            )
