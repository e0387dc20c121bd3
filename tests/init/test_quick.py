"""Small fills take one native call, and are what the longer way makes of the same call."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pyinit import _core, init
from pyinit._random.rng import Key
from pyinit.init import _basic

FILLS: dict[str, Callable[..., Tensor]] = {
    "uniform": lambda tensor, source=None: init.uniform_(tensor, -0.5, 2.0, source),
    "uniform of integers": lambda tensor, source=None: init.uniform_(tensor, -1, 2, source),
    "normal": lambda tensor, source=None: init.normal_(tensor, 0.5, 0.02, source),
    "normal of integers": lambda tensor, source=None: init.normal_(tensor, 1, 2, source),
    "kaiming_uniform": lambda tensor, source=None: init.kaiming_uniform_(
        tensor, math.sqrt(5), generator=source
    ),
    "xavier_normal": lambda tensor, source=None: init.xavier_normal_(tensor, generator=source),
}
TENSORS: dict[str, Callable[[], Tensor]] = {
    "float32": lambda: torch.full((16, 16), math.nan),
    "float64": lambda: torch.full((5, 7), math.nan, dtype=torch.float64),
    "bfloat16": lambda: torch.full((33, 41), math.nan, dtype=torch.bfloat16),
    "float16": lambda: torch.full((3, 2), math.nan, dtype=torch.float16),
    "parameter": lambda: nn.Parameter(torch.full((8, 8), math.nan), requires_grad=False),
    "turned": lambda: torch.full((6, 5), math.nan).t(),
    "image": lambda: torch.full((2, 3, 4, 5), math.nan).to(memory_format=torch.channels_last),
    "empty": lambda: torch.empty(3, 0),
}


@pytest.fixture
def longer_way(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    def take() -> None:
        monkeypatch.setattr(_basic, "quick_uniform", lambda *_: False)
        monkeypatch.setattr(_basic, "quick_normal", lambda *_: False)

    return take


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
@pytest.mark.parametrize("source", ["default", "generator", "key"])
@pytest.mark.parametrize("tensor", list(TENSORS))
@pytest.mark.parametrize("fill", list(FILLS))
def test_numbers_state_and_version_are_those_of_the_longer_way(
    fill: str, tensor: str, source: str, longer_way: Callable[[], None]
) -> None:
    if tensor == "empty" and fill == "xavier_normal":
        pytest.skip("torch's formula has no fans to divide by")
    found = []
    for way in (lambda: None, longer_way):
        way()
        made, generator = TENSORS[tensor](), torch.Generator().manual_seed(4)
        torch.manual_seed(3)
        of = {"default": None, "generator": generator, "key": Key(7, 2**64 - 1)}[source]
        before = made._version
        assert FILLS[fill](made, of) is made
        version = made._version - before
        found.append((made, version, torch.rand(2), torch.rand(2, generator=generator)))
    for first, second in zip(*found, strict=True):
        same = first == second
        assert same.all() if isinstance(same, Tensor) else same


class Seen:
    """A number of NumPy's, or one that only looks like one."""

    def __float__(self) -> float:
        return 0.5


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (1.0, -1.0),
        (math.nan, 1.0),
        (0.0, math.inf),
        (0.0, 65504.0),
        (np.float64(0), np.float64(1)),
        (np.float32(0), 1.0),
        (False, True),
        (0, 2**2000),
        (Seen(), 1.0),
        (None, 1.0),
        ("0", 1.0),
    ],
    ids=[
        "out of order",
        "NaN",
        "infinity",
        "large",
        "float64",
        "float32",
        "bool",
        "beyond floats",
        "looks like a number",
        "None",
        "text",
    ],
)
def test_what_is_no_small_plain_number_takes_the_longer_way(first: Any, second: Any) -> None:
    tensor, state = torch.full((4, 4), 7.0), torch.get_rng_state()
    assert not _core.quick_uniform(tensor, first, second, None, torch.get_num_threads)
    assert (tensor == 7).all()
    assert torch.equal(torch.get_rng_state(), state)


class Sub(Tensor):
    """A subclass sees every call."""


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.full((4,), 7.0).as_subclass(Sub),
        lambda: torch.full((4,), 7, dtype=torch.int32),
        lambda: torch.full((4,), 7.0, device="meta"),
        lambda: torch.full((8,), 7.0)[::2],
        lambda: torch.full((1,), 7.0).expand(4),
        lambda: torch.full((4,), 7.0).to_sparse(),
        lambda: torch.view_as_complex(torch.full((4, 2), 7.0)).conj().imag,
        lambda: np.full(4, 7.0),
        lambda: None,
    ],
    ids=["subclass", "integers", "meta", "gaps", "expanded", "sparse", "negative", "array", "none"],
)
def test_what_is_no_ordinary_tensor_takes_the_longer_way(make: Callable[[], Any]) -> None:
    tensor, state = make(), torch.get_rng_state()
    assert not _core.quick_normal(tensor, 0.0, 1.0, None, torch.get_num_threads)
    assert torch.equal(torch.get_rng_state(), state)
    assert _core.usual_targets([tensor]) == [None] or type(tensor) is Tensor


def test_inference_tensors_are_refused_before_a_number_is_drawn() -> None:
    with torch.inference_mode():
        tensor = torch.full((4,), 7.0)
    state = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="inference"):
        init.uniform_(tensor)
    assert (tensor == 7).all()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    "source", [(1, 2), 5, "key", torch.tensor([1, 2])], ids=["tuple", "int", "text", "tensor"]
)
def test_what_is_no_source_takes_the_longer_way(source: object) -> None:
    tensor = torch.full((4,), 7.0)
    assert not _core.quick_uniform(tensor, 0.0, 1.0, source, torch.get_num_threads)
    assert (tensor == 7).all()


def test_what_is_remembered_of_numbers_is_not_taken_for_truth_values() -> None:
    weight = torch.empty(4, 4)
    init.kaiming_uniform_(weight, 1, groups=1, batch_dims=0)
    init.xavier_uniform_(weight, 1.0, groups=1, batch_dims=0)
    init.variance_scaling_(weight, 1.0)
    for fill in (init.kaiming_uniform_, init.xavier_uniform_, init.variance_scaling_):
        with pytest.raises(TypeError, match="groups must be an int"):
            fill(weight, groups=True)  # type: ignore[operator]
        with pytest.raises(TypeError, match="batch_dims must be an int"):
            fill(weight, batch_dims=False)  # type: ignore[operator]
        with pytest.raises(TypeError, match="transposed must be a bool"):
            fill(weight, transposed=0)  # type: ignore[operator]
    with pytest.raises(ValueError, match="not a valid number"):
        init.kaiming_uniform_(weight, True)


def test_a_list_of_tensors_is_asked_for() -> None:
    with pytest.raises(TypeError, match="list of tensors"):
        _core.usual_targets((torch.empty(2),))  # type: ignore[arg-type]
