"""The model's own code is tried first, without a trace; what it raises is told before anything is written."""

import random
from collections.abc import Callable
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pyinit import initialize_
from pyinit.initializers import OwnReset


def on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.device("meta"):
        return build()


class Raising(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(3))

    def reset_parameters(self) -> None:
        nn.init.ones_(self.table)
        raise KeyError("no such thing")


class RaisingInModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.part = nn.ParameterList([nn.Parameter(torch.zeros(3))])
        self.layer = nn.Linear(3, 3)

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.ParameterList):
            raise KeyError("no such thing")


@pytest.mark.parametrize("is_on_meta", [False, True])
@pytest.mark.parametrize(
    ("build", "words"),
    [
        (
            lambda: nn.Sequential(nn.Linear(3, 3), Raising()),
            r"its own reset_parameters, for 1, raises KeyError: 'no such thing'; give its param",
        ),
        (
            RaisingInModel,
            "the model's own _init_weights, of ParameterList, for part, raises KeyError: 'no such",
        ),
    ],
)
def test_a_reset_that_raises_is_named_and_nothing_is_written(
    build: Callable[[], nn.Module], words: str, is_on_meta: bool
) -> None:
    model = on_meta(build) if is_on_meta else build()
    before = {name: p if p.is_meta else p.detach().clone() for name, p in model.named_parameters()}
    with pytest.raises(ValueError, match=words):
        initialize_(model, "auto", seed=0)
    for name, p in model.named_parameters():
        assert p is before[name] if is_on_meta else torch.equal(p, before[name])


class NeedsArguments(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.ones(3))

    def reset_parameters(self, std: float) -> None:
        nn.init.normal_(self.table, std=std)

    def _init_weights(self) -> None:
        raise NotImplementedError


def test_a_method_that_takes_other_arguments_is_no_reset() -> None:
    model = NeedsArguments()
    assert initialize_(model, "auto", seed=0)["table"].is_kept
    assert model.table.tolist() == [1.0] * 3


class Counting(nn.Module):
    """Keeps what happens to it, and draws from all generators."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.table = nn.Parameter(torch.zeros(3))

    def reset_parameters(self) -> None:
        self.calls += 1
        self.new_attribute = self.calls
        nn.init.constant_(self.table, random.random() + np.random.rand() + torch.rand(()).item())


def test_a_trial_leaves_no_trace_in_the_module() -> None:
    model = Counting()
    initialize_(model, "auto", seed=0, dry_run=True)
    assert model.calls == 0
    assert not hasattr(model, "new_attribute")
    initialize_(model, "auto", seed=0)
    assert model.calls == model.new_attribute == 1


def test_threads_that_reset_their_models_do_not_disturb_each_other() -> None:
    expected, models = Counting(), [Counting() for _ in range(8)]
    initialize_(expected, "auto", seed=1)
    threads = [Thread(target=initialize_, args=(m, "auto"), kwargs={"seed": 1}) for m in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(model.table, expected.table) for model in models)


class EarlyReturn(nn.Linear):
    def reset_parameters(self) -> None:
        if not self.weight.is_meta:
            nn.init.constant_(self.weight, 3.0)
            nn.init.constant_(self.bias, 4.0)


class TruncatedTable(nn.Embedding):
    """torch's trunc_normal_ does nothing on the meta device."""

    def reset_parameters(self) -> None:
        nn.init.trunc_normal_(self.weight, mean=3.0, std=0.1, a=2, b=4)


class OfValues(nn.Linear):
    """Looks at values, which raises an error where there are none."""

    def reset_parameters(self) -> None:
        nn.init.orthogonal_(self.weight)
        nn.init.constant_(self.bias, 3.0 + 0 * self.weight.norm().item())


@pytest.mark.parametrize("is_on_meta", [False, True])
@pytest.mark.parametrize("build", [EarlyReturn, TruncatedTable, OfValues])
def test_a_reset_that_does_nothing_on_the_meta_device_is_used_all_the_same(
    build: Callable[[int, int], nn.Module], is_on_meta: bool
) -> None:
    model = build(4, 4).to("meta" if is_on_meta else "cpu")
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    report = initialize_(model, "torch", seed=0)
    assert all(row.initializer == OwnReset() for row in report)
    last: Tensor = list(model.parameters())[-1]
    assert 2 < last.mean() < 5


# ---- Buffers -----------------------------------------------------------------------------------------


class Windows(nn.Module):
    """Makes buffers as torchvision's Swin does: by methods that also make a parameter."""

    def __init__(self, size: int = 3, *, persistent: bool = True) -> None:
        super().__init__()
        self.size, self.persistent = size, persistent
        self.layer = nn.Linear(2, 2)
        self.define_table()
        self.define_index()
        self._init_buffers()

    def define_table(self) -> None:
        self.table = nn.Parameter(torch.zeros(self.size))
        self.register_buffer("steps", torch.linspace(0, 1, self.size))

    def define_index(self) -> None:
        self.register_buffer("index", torch.arange(self.size), persistent=self.persistent)

    def _init_buffers(self) -> None:
        size = torch.tensor(float(self.size), device=self.layer.weight.device)
        self.register_buffer("root", size.sqrt())


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_buffers_from_meta_are_made_by_the_methods_of_their_module(
    persistent: bool, dtype: torch.dtype
) -> None:
    expected = Windows(persistent=persistent).to(dtype)
    model = on_meta(lambda: Windows(persistent=persistent)).to(dtype)
    table = model.table
    report = initialize_(model, "llama", seed=0, rules={"table": "ones"})
    assert model.table.tolist() == [1.0] * 3
    assert type(model.table) is type(table)
    assert model.state_dict().keys() == expected.state_dict().keys()
    for name, buffer in expected.named_buffers():
        made = model.get_buffer(name)
        assert made.dtype == buffer.dtype
        assert torch.equal(made, buffer), name
    assert report.buffers == [("", "its own _init_buffers and define_index and define_table")]


class Lost(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("index", torch.arange(3))
        self.register_buffer("steps", torch.arange(3))

    def define_index(self) -> None:
        self.register_buffer("index", torch.arange(3))

    def define_shape(self, size: int) -> None:
        raise AssertionError(size)


def test_buffers_that_no_method_makes_are_refused_by_name() -> None:
    model = on_meta(Lost)
    with pytest.raises(ValueError, match=r"only their module's constructor knows: .*steps"):
        initialize_(model, "torch", seed=0)
    assert model.index.is_meta


# ---- Parts of torchvision and timm -------------------------------------------------------------------

PARTS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "RelativePositionalMultiHeadAttention": ("torchvision.models.maxvit", (8, 4, 49)),
    "ShiftedWindowAttention": ("torchvision.models.swin_transformer", (8, [3, 5], [0, 0], 2)),
    "ShiftedWindowAttentionV2": ("torchvision.models.swin_transformer", (8, [3, 5], [0, 0], 2)),
    "Affine": ("timm.models.mlp_mixer", (8,)),
    "StarReLU": ("timm.models.metaformer", ()),
    "LayerScaleBlock": ("timm.models.cait", (8, 2)),
    "GPSA": ("timm.models.convit", (8, 2)),
    "WindowAttention": ("timm.models.swin_transformer", (8, 2, None, 3)),
    "LearnableAffineBlock": ("timm.models.hgnet", ()),
}


@pytest.mark.parametrize("name", PARTS)
def test_parts_of_models_start_from_meta_as_their_constructors_have_it(name: str) -> None:
    if not hasattr(torch.ops.torchvision, "nms"):  # a torch without torchvision's operators
        for operator in ("nms", "qnms"):
            schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            torch.library.define(f"torchvision::{operator}", schema)
    module, arguments = PARTS[name]
    cls = getattr(pytest.importorskip(module), name)
    torch.manual_seed(0)
    expected, model = cls(*arguments), on_meta(lambda: cls(*arguments))
    initialize_(model, "auto", seed=0)
    for buffer, values in expected.named_buffers():
        assert torch.equal(model.get_buffer(buffer), values), buffer
    for leaf, values in expected._parameters.items():
        made = model.get_parameter(leaf)
        if values.unique().numel() == 1:
            assert torch.equal(made, values), leaf
        else:
            assert made.std().item() == pytest.approx(values.std().item(), rel=0.3), leaf
