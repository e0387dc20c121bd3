"""Scaling by depth on the wrong layer of a residual branch."""

import math
from collections.abc import Iterator, Sequence

from pyinit.inspection.findings.finding import Found, kind
from pyinit.inspection.subject import Item, Subject, expected_std, plain

_LEAST_BRANCHES = 4
_LEAST_FOUND = 2  # what one branch alone shows may be chance
_LEAST_COUNT = 256  # elements whose standard deviation tells a factor
_NEAR = 1.1  # factors that are taken for the same


@kind("PI110", "depth scaling on the wrong layer")
def misplaced_scale(subject: Subject) -> Iterator[Found]:
    """A layer inside a residual branch that is scaled down by the number of branches, while the last
    layer, whose output is added to the stream, is not.

    With N branches of variance 1 the stream ends with variance N; so GPT-2 draws the last layer of each
    branch smaller by the square root of N. On another layer, a gate say, the factor makes the branch
    small in another way, and takes gradients away from that layer.

    ```python
    import math
    import pyinit
    from pyinit.models.llama import Llama
    from torch import nn

    def init(model):
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                nn.init.ones_(parameter)
            else:
                scale = math.sqrt(2 * 4) if name.endswith("gate_proj.weight") else 1
                nn.init.normal_(parameter, std=0.02 / scale)

    model = Llama(vocab=64, width=64, hidden=128, layers=4, heads=4, kv_heads=4, head_dim=16)
    findings = pyinit.check(model, init)
    ```

    ```python
    import math
    import pyinit
    from pyinit.models.llama import Llama
    from torch import nn

    def init(model):
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                nn.init.ones_(parameter)
            else:
                is_last = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(parameter, std=0.02 / (math.sqrt(2 * 4) if is_last else 1))

    model = Llama(vocab=64, width=64, hidden=128, layers=4, heads=4, kv_heads=4, head_dim=16)
    findings = pyinit.check(model, init)
    ```
    """
    branches = _branches(subject)
    if len(branches) < _LEAST_BRANCHES:
        return
    factors = [1 / math.sqrt(len(branches) * k) for k in (0.5, 1, 2)]
    stds = sorted(_std(item) for branch in branches for item in branch)
    usual = stds[len(stds) // 2]
    found = [
        (item, branch[-1])
        for branch in branches
        for item in branch[:-1]
        if item.path not in subject.branch_ends  # of a branch inside this one, say
        and not _is_separate_query(item, subject)
        and not _is_as_wanted(item, subject)
        and (_is_alone(item, branch, usual, factors) or _has_unscaled_twin(item, branch, factors))
    ]
    if len(found) < _LEAST_FOUND:
        return
    for item, last in found:
        yield (
            item.name,
            f"std {plain(_std(item))}, where {last.name} has {plain(_std(last))}",
            f"the smaller std in {last.name}, the last layer of the branch, if anywhere",
            f"of {len(branches)} residual branches it is the outputs that add up",
            "likely",
        )


def _branches(subject: Subject) -> list[list[Item]]:
    """The weights of each branch, the last layer's last; where the graph knows that one alone, with
    those of its neighbours in the same module."""
    layers = {
        item.path: item
        for item in subject.layers
        if item.tensor.numel() >= _LEAST_COUNT and not item.is_structured
    }
    by_parent: dict[str, list[str]] = {}
    for path in layers:
        by_parent.setdefault(path.rpartition(".")[0], []).append(path)
    found = []
    for branch in subject.graph.branches:
        last = branch.layers[-1] if branch.layers else ""
        if last not in layers:
            continue
        others = branch.layers[:-1] or by_parent[last.rpartition(".")[0]]
        found.append([layers[path] for path in others if path in layers and path != last])
        found[-1].append(layers[last])
    return found


def _is_alone(item: Item, branch: Sequence[Item], usual: float, factors: Sequence[float]) -> bool:
    """Whether it is scaled, and all others in the branch, whatever their shapes, are as usual."""
    others = [other for other in branch if other is not item]
    is_scaled = any(_is_near(_std(item), usual * factor) for factor in factors)
    return (
        is_scaled
        and all(_is_near(_std(other), usual) for other in others)
        and len({tuple(sorted(other.shape)) for other in branch}) < len(branch)
    )


def _has_unscaled_twin(item: Item, branch: Sequence[Item], factors: Sequence[float]) -> bool:
    """Whether a layer of its shape, which any rule would treat alike, is larger by the factor."""
    twins = [other for other in branch[:-1] if other is not item and other.shape == item.shape]
    return any(_is_near(_std(item), _std(twin) * factor) for twin in twins for factor in factors)


def _is_separate_query(item: Item, subject: Subject) -> bool:
    """T5 draws its queries smaller than its keys, by the size of a head."""
    outputs, inputs = item.shape[:2]
    return item.path in subject.graph.attention and outputs <= inputs


def _is_as_wanted(item: Item, subject: Subject) -> bool:
    """Whether it has what suits its layer: beside a gate, whose activation has a gain, that is smaller."""
    choice = subject.expected(item)
    wanted = None if choice is None else expected_std(choice.initializer, item.weight)
    return wanted is not None and _is_near(_std(item), wanted)


def _std(item: Item) -> float:
    assert item.statistics is not None
    return item.statistics.std


def _is_near(one: float, other: float) -> bool:
    return one > 0 and other > 0 and 1 / _NEAR < one / other < _NEAR
