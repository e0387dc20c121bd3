"""Values too small for their dtype."""

from collections.abc import Iterator

from pyinit.inspection.findings.finding import Found, kind
from pyinit.inspection.subject import Subject, plain, smallest_normal


@kind("PI108", "underflow")
def underflow(subject: Subject) -> Iterator[Found]:
    """A weight whose values are so small that its dtype has few digits for them, or none.

    float16 has full precision down to 6e-5 alone. Smaller numbers lose digit after digit, and below
    6e-8 they are 0. A scale of 1e-6, as layers' outputs get in some deep models, is such a number.

    ```python
    import pyinit
    import torch
    from torch import nn

    model = nn.Linear(64, 64, dtype=torch.float16)
    nn.init.normal_(model.weight, std=1e-6)
    findings = pyinit.check(model)
    ```

    Keep such weights in bfloat16 or float32:

    ```python
    import pyinit
    import torch
    from torch import nn

    model = nn.Linear(64, 64, dtype=torch.bfloat16)
    nn.init.normal_(model.weight, std=0.02)
    findings = pyinit.check(model)
    ```
    """
    for item in subject.items:
        one = item.statistics
        if one is None or not item.is_parameter or not item.is_finite or one.zeros == one.count:
            continue
        least = smallest_normal(item.tensor.dtype)
        is_matrix_drawn = item.is_matrix and one.std > 0
        if max(-one.min, one.max) < least or (is_matrix_drawn and one.std < 2 * least):
            found = f"std {plain(one.std)}, {one.zeros} of {one.count} elements are 0"
            if item.is_constant:
                found = f"all {one.count} elements are {plain(one.min)}"
            yield (
                item.name,
                found,
                f"values above {plain(least)}",
                f"{str(item.tensor.dtype).removeprefix('torch.')} has no full precision below that",
                "likely",
            )
