"""Parameters that hold the same random numbers."""

from collections.abc import Iterator

import torch
from torch import Tensor

from pyinit.inspection.findings.finding import Confidence, Found, kind
from pyinit.inspection.subject import Item, Subject

_PARTS = (2, 4, 8)


@kind("PI102", "identical random values")
def identical(subject: Subject) -> Iterator[Found]:
    """Two parameters, or parts of one, that hold the same random numbers and are not tied.

    They get the same gradients where their inputs are alike, and never come apart. The usual causes
    are a seed that is set again before each layer or on each rank (so that all shards are the same),
    and layers that are deep copies of one, as those of `nn.TransformerEncoder` are. If one of the two
    is frozen, the copy may be meant, as a teacher's is; vectors, such as biases, do little harm.

    ```python
    import pyinit
    import torch
    from torch import nn

    shards = nn.ModuleList()
    for rank in range(2):
        torch.manual_seed(0)
        shards.append(nn.Linear(64, 32))
    findings = pyinit.check(shards)
    ```

    Seed each one differently, or take the numbers of the whole by their places:

    ```python
    import pyinit
    import torch
    from torch import nn

    shards = nn.ModuleList(nn.Linear(64, 32) for rank in range(2))
    for rank, shard in enumerate(shards):
        start = (32 * rank, 0)
        pyinit.fill.normal(shard.weight, 0.0, 0.125, key=0, whole=(64, 64), start=start)
    findings = pyinit.check(shards)
    ```
    """
    seen: dict[tuple[int, tuple[int, ...], torch.dtype], Item] = {}
    for item in subject.items:
        if not item.is_parameter or not item.looks_drawn:
            continue
        first = seen.setdefault((item.digest, item.shape, item.tensor.dtype), item)
        if first is not item and torch.equal(first.tensor, item.tensor):
            is_trained = first.tensor.requires_grad == item.tensor.requires_grad
            confidence: Confidence = "certain" if is_trained and item.is_matrix else "possible"
            yield (
                item.name,
                f"the same {item.tensor.numel()} values as {first.name}",
                "values of its own, or one parameter for both",
                "what starts alike learns alike",
                confidence,
            )
    for item in subject.items:
        if item.is_matrix and (item.looks_drawn or _is_dense(item)):
            repeated = _repeated(item.tensor.detach())
            if repeated is not None:
                parts, dim = repeated
                yield (
                    item.name,
                    f"its {parts} equal parts along dim {dim} hold the same values",
                    "values of their own in each part",
                    "shards were drawn from the same seed",
                    "certain",
                )


def _is_dense(item: Item) -> bool:
    """Whether it is a weight whose units all see the same inputs, so that no two of them may be alike;
    a mean far from 0, as a few numbers many times have it, then says nothing against chance."""
    return (
        item.is_weight
        and item.is_finite
        and not item.is_structured
        and getattr(item.module, "groups", 1) == 1
    )


def _repeated(tensor: Tensor) -> tuple[int, int] | None:
    """The number of parts that are the same, and the dimension that they lie along."""
    for dim in (0, 1):
        size = tensor.shape[dim]
        for parts in _PARTS:
            if size % parts or size == parts:
                continue
            step = size // parts
            # Most differ in their first rows.
            if torch.equal(tensor.select(dim, 0), tensor.select(dim, step)) and all(
                torch.equal(tensor.narrow(dim, 0, step), tensor.narrow(dim, k * step, step))
                for k in range(1, parts)
            ):
                return parts, dim
    return None
