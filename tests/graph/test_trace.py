"""What is found of the order in which a model's layers run."""

import random
from collections.abc import Callable
from inspect import isfunction
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from pyinit import calculate_gain
from pyinit._graph.fx_tracer import traced
from pyinit._graph.graph import ActivationKind, Branch
from pyinit._graph.trace import trace
from pyinit.models.gpt2 import GPT2
from pyinit.models.llama import Llama
from pyinit.models.resnet import ResNet
from pyinit.models.vit import VisionTransformer


class ConvNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3)
        self.conv2 = nn.Conv2d(8, 8, 3)
        self.bn = nn.BatchNorm2d(8)
        self.conv3 = nn.Conv2d(8, 8, 3)
        self.dropout = nn.Dropout(0.1)
        self.fc = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(self.conv1(x)), 2)
        x = functional.leaky_relu(self.bn(self.conv2(x)), negative_slope=0.2)
        x = torch.tanh(self.dropout(self.conv3(x)))
        return self.fc(x.mean((2, 3)))


def test_functions_follow_the_layers_that_they_are_called_on() -> None:
    graph = trace(ConvNet())
    assert graph.source == "torch.fx"
    assert graph.activation == {
        "conv1": ActivationKind("relu"),
        "conv2": ActivationKind("leaky_relu", 0.2),
        "conv3": ActivationKind("tanh"),
    }
    assert graph.norms == {"conv2": "bn"}
    assert graph.heads == {"fc"}


class Swish(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.7 * x)


class Sine(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sin()


def method(x: Tensor) -> Tensor:
    return x.relu_()


class Calls(nn.Module):
    """A layer and a function of its output."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.function(self.first(x)))


def by_hand(x: Tensor) -> Tensor:
    return x * x.sigmoid()


def quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


def quick_gelu_by_methods(x: Tensor) -> Tensor:
    return x.mul(1.702).sigmoid() * x


def gate(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x.mean())


def name_of(value: object) -> str:
    """An identifier of a parameter that is the same in every process."""
    return getattr(value, "__name__", str(value))


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (nn.ReLU(), ActivationKind("relu")),
        (nn.GELU("tanh"), ActivationKind("gelu")),
        (nn.LeakyReLU(0.3), ActivationKind("leaky_relu", 0.3)),
        (nn.PReLU(init=0.1), ActivationKind("leaky_relu", 0.1)),
        (nn.ELU(), ActivationKind("elu")),
        (nn.Hardswish(), ActivationKind("hardswish")),
        (functional.silu, ActivationKind("silu")),
        (method, ActivationKind("relu")),
        (by_hand, ActivationKind("silu")),
    ],
    ids=lambda value: None if isfunction(value) else str(value),
)
def test_an_activation_is_known_by_name(
    function: Callable[[Tensor], Tensor], expected: ActivationKind
) -> None:
    graph = trace(Calls(function))
    assert graph.activation == {"first": expected}
    assert graph.activation_before == {"second": expected}


@pytest.mark.parametrize(
    "function", [nn.ELU(2.0), Swish(), Sine(), quick_gelu, quick_gelu_by_methods], ids=name_of
)
def test_another_activation_is_known_by_its_gain(function: Callable[[Tensor], Tensor]) -> None:
    graph = trace(Calls(function))
    expected = pytest.approx(calculate_gain(function), rel=1e-9)
    assert graph.activation["first"].nonlinearity == expected
    assert graph.activation_before["second"].nonlinearity == expected


def test_a_gate_by_another_value_is_no_activation_of_the_product() -> None:
    graph = trace(Calls(gate))
    assert graph.activation == {"first": ActivationKind("sigmoid")}
    assert "second" not in graph.activation_before


def test_the_gate_of_a_gated_unit_has_its_activation_and_the_other_half_none() -> None:
    with torch.device("meta"):
        model = Llama(vocab=50, width=16, hidden=32, layers=2, heads=2, kv_heads=1, head_dim=8)
    graph = trace(model)
    assert graph.source == "torch.fx"
    assert graph.activation["model.layers.0.mlp.gate_proj"] == ActivationKind("silu")
    assert "model.layers.0.mlp.up_proj" not in graph.activation
    assert "model.layers.1.self_attn.k_proj" in graph.attention
    assert "model.layers.1.self_attn.o_proj" not in graph.attention
    assert graph.heads == {"lm_head"}


def test_branches_of_a_resnet_end_in_their_norms() -> None:
    with torch.device("meta"):
        graph = trace(ResNet(blocks=(2, 1), width=8))
    assert graph.branches == tuple(
        Branch(tuple(f"{block}.conv{i}" for i in (1, 2, 3)), f"{block}.bn3")
        for block in ("layer1.0", "layer1.1", "layer2.0")
    )
    assert graph.activation["layer1.0.conv3"] == ActivationKind("relu")
    assert graph.norms["layer1.0.downsample.0"] == "layer1.0.downsample.1"
    assert graph.heads == {"fc"}


def test_branches_of_a_gpt2_are_attention_and_mlp() -> None:
    with torch.device("meta"):
        graph = trace(GPT2(vocab=50, context=8, width=16, layers=2, heads=2))
    assert graph.branches == tuple(
        Branch((f"transformer.h.{i}.{layers[0]}", f"transformer.h.{i}.{layers[1]}"))
        for i in range(2)
        for layers in (("attn.c_attn", "attn.c_proj"), ("mlp.c_fc", "mlp.c_proj"))
    )
    assert graph.attention == {"transformer.h.0.attn.c_attn", "transformer.h.1.attn.c_attn"}
    assert graph.norms["transformer.h.0.attn.c_proj"] == "transformer.h.0.ln_2"


def test_multihead_attention_is_two_layers() -> None:
    with torch.device("meta"):
        graph = trace(VisionTransformer(image=32, width=16, layers=1, heads=2, hidden=32))
    block = "encoder.layers.encoder_layer_0"
    assert graph.branches[0] == Branch(
        (f"{block}.self_attention", f"{block}.self_attention.out_proj")
    )
    assert graph.branches[1] == Branch((f"{block}.mlp.0", f"{block}.mlp.3"))
    assert graph.heads == {"heads.head"}


class Parallel(nn.Module):
    """Two branches from one norm, as in GPT-J."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.a, self.b = nn.LayerNorm(4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        return x + self.a(y) + self.b(y)


class Summed(Parallel):
    """Two branches that are added to each other first, as in GPT-NeoX."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        return self.a(y) + self.b(y) + x


@pytest.mark.parametrize("model", [Parallel, Summed])
def test_branches_may_be_side_by_side(model: type[nn.Module]) -> None:
    assert trace(model()).branches == (Branch(("a",)), Branch(("b",)))


class Masked(nn.Module):
    """Attention by hand, with a mask that is made from the input."""

    def __init__(self) -> None:
        super().__init__()
        self.qk, self.v = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        scores = self.qk(x) @ x.transpose(1, 2) + x.sum(2, keepdim=True)
        return x + scores.softmax(-1) @ self.v(x)


def test_a_mask_on_scores_is_no_skip() -> None:
    graph = trace(Masked())
    assert graph.branches == (Branch(("qk", "v")),)
    assert graph.attention == {"qk", "v"}


class Towers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(4, 4) for _ in range(3))
        self.position = nn.Parameter(torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.a(x) + self.b(x) + self.position)


def test_a_sum_without_a_skip_is_no_branch() -> None:
    assert trace(Towers()).branches == ()


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("activation", ["gelu", functional.silu])
def test_torchs_transformer_is_known_from_inside(
    norm_first: bool, activation: str | Callable[[Tensor], Tensor]
) -> None:
    with torch.device("meta"):
        model = nn.Transformer(16, 2, 1, 2, 32, activation=activation, norm_first=norm_first)
    graph = trace(model)
    name = "gelu" if activation == "gelu" else "silu"
    assert graph.activation["encoder.layers.0.linear1"] == ActivationKind(name)
    assert graph.activation["decoder.layers.1.linear1"] == ActivationKind(name)
    assert [branch.layers[-1] for branch in graph.branches] == [
        "encoder.layers.0.self_attn.out_proj",
        "encoder.layers.0.linear2",
        *(
            f"decoder.layers.{i}.{last}"
            for i in range(2)
            for last in ("self_attn.out_proj", "multihead_attn.out_proj", "linear2")
        ),
    ]
    assert graph.heads == {"decoder.layers.1.linear2"}


def test_depth_counts_layers_in_a_row() -> None:
    model = nn.Sequential(
        *(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Dropout(), nn.Linear(4, 4)),
        *(nn.LayerNorm(4), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4)),
    )
    assert trace(model).depth == {"0": 3, "2": 3, "4": 3, "6": 2, "8": 2}


class OfValues(nn.Module):
    """Control flow on values around parts that can be traced, and a layer beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.ELU(), nn.Linear(8, 4))
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            x = self.body(x)
        return self.head(x)


def test_a_model_that_cannot_be_traced_is_traced_in_parts() -> None:
    graph = trace(OfValues())
    assert graph.source == "torch.fx in parts"
    assert graph.activation == {"body.0": ActivationKind("elu")}
    assert graph.heads == {"head"}


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q_proj, self.out_proj = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out_proj(self.q_proj(x)) if x.sum() > 0 else x


class MLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.activation_fn = nn.Linear(4, 8), nn.Linear(8, 4), functional.gelu

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.activation_fn(self.fc1(x))) if x.sum() > 0 else x


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn, self.mlp = Attention(), MLP()

    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError(f"cannot run on {x}")


def test_where_nothing_can_be_traced_names_and_order_say_what_they_can() -> None:
    graph = trace(nn.Sequential(Block(), nn.Linear(4, 2)))
    assert graph.source == "module order"
    assert graph.activation == {"0.mlp.fc1": ActivationKind("gelu")}
    assert graph.attention == {"0.attn.q_proj"}
    assert graph.branches == (Branch(("0.attn.out_proj",)), Branch(("0.mlp.fc2",)))
    assert graph.heads == {"1"}


class Meddler(nn.Module):
    """Does in its forward whatever could leave a trace."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.register_buffer("seen", torch.zeros(()))
        self.calls, self.kept = 0, []

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.kept.append(x)
        self.last = x
        self.seen.add_(1)
        torch.rand(3)
        random.random()
        return self.fc(x)


def test_an_interrupt_while_torch_ends_a_trace_leaves_no_tracer_in_the_calls_of_modules(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    before = nn.Module.__call__, nn.Module.__getattr__
    with monkeypatch.context() as patched:
        for end in ("__exit__", "revert_all_patches"):  # by version of torch
            patched.setattr(fx._symbolic_trace._Patcher, end, interrupted, raising=False)
        with pytest.raises(KeyboardInterrupt):
            traced(nn.Sequential(nn.Linear(2, 2)))
    assert (nn.Module.__call__, nn.Module.__getattr__) == before
    nn.Linear(2, 2)(torch.ones(2))
    with fx._symbolic_trace._maybe_revert_all_patches():  # as a compilation does
        pass
    assert (nn.Module.__call__, nn.Module.__getattr__) == before


def test_a_trace_leaves_the_model_and_random_states_as_they_were() -> None:
    model = nn.Sequential(Meddler(), nn.BatchNorm1d(4), nn.Dropout()).train()
    hooked: list[int] = []
    model[0].register_forward_hook(lambda *_: hooked.append(0))
    model[1].register_forward_pre_hook(lambda *_: hooked.append(1))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    attributes = {path: list(vars(module)) for path, module in model.named_modules()}
    states = torch.get_rng_state(), random.getstate()
    assert trace(model).source == "torch.fx"
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert {path: list(vars(module)) for path, module in model.named_modules()} == attributes
    assert (model[0].calls, model[0].kept, hooked) == (0, [], [])
    assert all(module.training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]


TRANSFORMERS = {
    "GPT2LMHeadModel": (
        "GPT2Config",
        {"n_layer": 2, "n_embd": 16, "n_head": 2, "vocab_size": 50, "bos_token_id": 0}
        | {"eos_token_id": 0},
        ("attn.c_proj", "mlp.c_proj"),
        ("transformer.h.0.mlp.c_fc", "gelu"),
    ),
    "LlamaForCausalLM": (
        "LlamaConfig",
        {"num_hidden_layers": 2, "hidden_size": 16, "intermediate_size": 32, "vocab_size": 50}
        | {"num_attention_heads": 2},
        ("self_attn.o_proj", "mlp.down_proj"),
        ("model.layers.0.mlp.gate_proj", "silu"),
    ),
    "ViTForImageClassification": (
        "ViTConfig",
        {"num_hidden_layers": 2, "hidden_size": 16, "intermediate_size": 32}
        | {"num_attention_heads": 2},
        None,
        None,
    ),
    "BertForSequenceClassification": (
        "BertConfig",
        {"num_hidden_layers": 2, "hidden_size": 16, "intermediate_size": 32, "vocab_size": 50}
        | {"num_attention_heads": 2},
        ("attention.output.dense", "output.dense"),
        ("bert.encoder.layer.0.intermediate.dense", "gelu"),
    ),
    "ResNetForImageClassification": (
        "ResNetConfig",
        {"depths": [2, 2], "hidden_sizes": [8, 16], "embedding_size": 8},
        None,
        ("resnet.embedder.embedder.convolution", "relu"),
    ),
}


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_models_of_transformers_are_traced_whole(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    config, arguments, ends, active = TRANSFORMERS[name]
    with torch.device("meta"):
        model = getattr(transformers, name)(getattr(transformers, config)(**arguments))
    graph = trace(model)
    assert graph.source == "torch.fx"
    assert len(graph.branches) == 4
    assert len(graph.heads) == 1
    if ends is not None:
        assert all(branch.layers[-1].endswith(ends) for branch in graph.branches)
    if active is not None:
        assert graph.activation[active[0]] == ActivationKind(active[1])
