"""Parameters that are written in part."""

from collections.abc import Iterator

from pyinit.inspection.findings.finding import Found, kind
from pyinit.inspection.subject import Subject


@kind("PI002", "written in part")
def written_in_part(subject: Subject) -> Iterator[Found]:
    """A parameter or buffer of which the initialization writes some elements, and not the others.

    This happens to fused weights, where queries and keys are initialized and values are forgotten, to
    tables that have grown, and to shards at the edge.

    ```python
    import pyinit
    from torch import nn

    def init(attention):
        nn.init.xavier_uniform_(attention.weight[:16])  # queries and keys
        nn.init.zeros_(attention.bias)

    findings = pyinit.check(nn.Linear(8, 24), init)
    ```

    Write all of it:

    ```python
    import pyinit
    from torch import nn

    def init(attention):
        for part in attention.weight.chunk(3):
            nn.init.xavier_uniform_(part)
        nn.init.zeros_(attention.bias)

    findings = pyinit.check(nn.Linear(8, 24), init)
    ```
    """
    for item in subject.items:
        writing = item.writing
        if writing is None or not 0 < writing.unwritten < writing.elements:
            continue
        place = ", ".join(map(str, writing.first))
        yield (
            item.name,
            f"{writing.unwritten} of {writing.elements} elements are never written, first ({place})",
            "values everywhere",
            "the others hold what the memory held before",
            "certain",
        )
