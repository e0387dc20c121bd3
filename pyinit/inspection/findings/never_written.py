"""Parameters that nothing writes."""

from collections.abc import Iterator

from pyinit.inspection.findings.finding import Found, kind
from pyinit.inspection.subject import Subject


@kind("PI001", "never written")
def never_written(subject: Subject) -> Iterator[Found]:
    """A parameter or buffer whose memory the initialization never writes.

    It holds whatever the memory held before: zeros on one day, the remains of another tensor on the
    next. A model that was made by `to_empty()` trains on that.

    A parameter that the constructor writes, and `init` does not, is found, too: `init` alone does not
    initialize the model.

    ```python
    import pyinit
    from torch import nn

    def build():
        model = nn.Sequential(nn.Linear(8, 8, device="meta"), nn.LayerNorm(8, device="meta"))
        model.to_empty(device="cpu")
        nn.init.xavier_uniform_(model[0].weight)
        nn.init.zeros_(model[0].bias)
        return model

    findings = pyinit.check(build)
    ```

    Write every parameter after `to_empty()`:

    ```python
    import pyinit
    from torch import nn

    def build():
        model = nn.Sequential(nn.Linear(8, 8, device="meta"), nn.LayerNorm(8, device="meta"))
        pyinit.initialize_(model, seed=0)
        return model

    findings = pyinit.check(build)
    ```
    """
    for item in subject.items:
        writing = item.writing
        if writing is None or not writing.elements or writing.unwritten < writing.elements:
            continue
        if item.is_left_to_constructor:
            continue
        what = "parameter" if item.is_parameter else "buffer"
        found = f"none of {writing.elements} elements is ever written"
        why = f"a {what} holds what the memory held before"
        if writing.by_constructor:
            found = f"init writes none of {writing.elements} elements; the constructor does"
            why = (
                "init alone does not make the model's values, as after to_empty(); let it write them, "
                "or name them in ignore="
            )
        yield (
            item.name,
            found,
            "a value for each element",
            why,
            "certain",
        )
