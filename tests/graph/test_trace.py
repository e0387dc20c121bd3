"""What is found of the order in which a model's layers run."""

import random
from collections.abc import Callable
from inspect import isfunction
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

import pyinit
from pyinit import calculate_gain
from pyinit._graph import fx_tracer, model_to_flow
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


def squared_relu(x: Tensor) -> Tensor:
    return functional.relu(x).square()


def power_of_leaky_relu(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, 0.2) ** 2


def product_with_itself(x: Tensor) -> Tensor:
    y = x.relu()
    return y * y


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
    "function",
    [
        *(nn.ELU(2.0), Swish(), Sine(), quick_gelu, quick_gelu_by_methods),
        *(squared_relu, power_of_leaky_relu, product_with_itself),
    ],
    ids=name_of,
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


class Pooled(nn.Module):
    """A mean over a sequence, weighed by a softmax that no product makes."""

    def __init__(self) -> None:
        super().__init__()
        self.score, self.head = nn.Linear(4, 1), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        pooled = (self.score(x).softmax(1) * x).sum(1)
        return functional.log_softmax(self.head(pooled), dim=1)


def test_a_head_that_ends_in_a_softmax_is_no_attention() -> None:
    graph = trace(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2), nn.Softmax(-1)))
    assert (graph.attention, graph.heads) == (set(), {"2"})
    graph = trace(Pooled())
    assert (graph.attention, graph.heads) == (set(), {"head"})


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


# ---- Mechanisms that real architectures have -----------------------------------------------------


class NormWithActivation(nn.BatchNorm2d):
    """A norm that ends in an activation, as timm's BatchNormAct2d does."""

    def __init__(self, channels: int, act: nn.Module) -> None:
        super().__init__(channels)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(super().forward(x))


def test_an_activation_inside_a_norm_follows_the_layer_before_it() -> None:
    graph = trace(
        nn.Sequential(
            *(nn.Conv2d(3, 4, 3), NormWithActivation(4, nn.SiLU())),
            *(nn.Conv2d(4, 4, 3), NormWithActivation(4, nn.Identity()), nn.Conv2d(4, 2, 3)),
        )
    )
    assert graph.activation == {"0": ActivationKind("silu")}
    assert graph.norms == {"0": "1", "2": "3"}


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"activation": "relu"}, ActivationKind("relu")),
        ({"activation": "gelu_tanh"}, ActivationKind("gelu")),
        (
            {"activation": "leaky_relu", "activation_parameter": 0.3},
            ActivationKind("leaky_relu", 0.3),
        ),
    ],
)
@pytest.mark.parametrize("traceable", [True, False])
def test_an_activation_inside_a_convolution_follows_it(
    traceable: bool, options: dict[str, Any], kind: ActivationKind
) -> None:
    layers = nn.Sequential(pyinit.nn.Conv2d(3, 4, 3, **options), pyinit.nn.Conv2d(4, 2, 3))
    graph = trace(layers if traceable else Untraceable(layers))
    prefix = "" if traceable else "layers."
    assert graph.activation == {f"{prefix}0": kind}
    assert graph.activation_before.get("1") == (kind if traceable else None)


class Untraceable(nn.Module):
    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers.children())

    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError(f"cannot run on {x}")


class Tower(nn.Module):
    """Residual blocks, whose second branch may attend to what another tower gives."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(blocks))
        self.looks = nn.ModuleList(nn.Linear(4, 4) for _ in range(blocks))

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        for block, look in zip(self.blocks, self.looks, strict=True):
            x = x + block(x)
            if memory is not None:
                x = x + look(memory * x)
        return x


class TwoStreams(nn.Module):
    """An encoder of two branches and a decoder of six, which starts from a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = Tower(2), Tower(3)
        self.start = nn.Parameter(torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.start, self.encoder(x))


class UntraceableStreams(TwoStreams):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.sum() > 0 else x


def branches_of(model: nn.Module) -> dict[str, int]:
    graph = trace(model)
    counts = graph.branches_of_streams()
    return {branch.layers[-1]: counts[branch.stream] for branch in graph.branches}


def test_branches_are_counted_by_residual_stream() -> None:
    counts = branches_of(TwoStreams())
    encoder = {f"encoder.blocks.{i}": 2 for i in range(2)}
    decoder = {f"decoder.{part}.{i}": 6 for i in range(3) for part in ("blocks", "looks")}
    assert counts == {**encoder, **decoder}


def test_parts_that_are_traced_apart_have_streams_of_their_own() -> None:
    counts = branches_of(UntraceableStreams())
    assert counts == {
        **{f"encoder.blocks.{i}": 2 for i in range(2)},
        **{f"decoder.blocks.{i}": 3 for i in range(3)},
    }


class CrossAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(4, 4) for _ in range(4))

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        scores = self.q(x) @ self.k(memory).transpose(1, 2)
        return x + self.o(scores.softmax(-1) @ self.v(memory))


class DecoderBlock(nn.Module):
    """A block that looks at an encoder's output only if there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp, self.cross = nn.Linear(4, 4), CrossAttention()

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        x = x + self.mlp(x)
        return x if memory is None else self.cross(x, memory)


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.ModuleList(DecoderBlock() for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.block if x.sum() > 0 else ():
            x = block(x)
        return x


def test_layers_that_the_trace_of_a_part_passes_by_are_traced_apart() -> None:
    graph = trace(Decoder())
    assert graph.source == "torch.fx in parts"
    assert graph.attention == {f"block.{i}.cross.{name}" for i in range(2) for name in "qkv"}
    assert branches_of(Decoder()) == {
        **{f"block.{i}.mlp": 4 for i in range(2)},
        **{f"block.{i}.cross.o": 4 for i in range(2)},
    }


class Scores(nn.Module):
    """Attention whose scores are made in one of several ways."""

    def __init__(self, score: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(4, 4) for _ in range(3))
        self.temperature = nn.Parameter(torch.ones(()))
        self.score = score

    def forward(self, x: Tensor) -> Tensor:
        scores = self.score(self.q(x), self.k(x).transpose(1, 2))
        scores = scores * self.temperature if self.score is learned else scores
        return (scores + x.sum()).softmax(-1) @ self.v(x)


def learned(q: Tensor, k: Tensor) -> Tensor:
    return q @ k


def bare(q: Tensor, k: Tensor) -> Tensor:
    return q @ k * 1.0


def multiplied(q: Tensor, k: Tensor) -> Tensor:
    return q @ k * 0.5


def divided(q: Tensor, k: Tensor) -> Tensor:
    return q @ k / 2


def before(q: Tensor, k: Tensor) -> Tensor:
    return (0.5 * q) @ k


def normalized(q: Tensor, k: Tensor) -> Tensor:
    return functional.normalize(q, dim=-1) @ k


@pytest.mark.parametrize("score", [bare, multiplied, divided, before, normalized, learned])
def test_whether_scores_are_scaled(score: Callable[[Tensor, Tensor], Tensor]) -> None:
    graph = trace(Scores(score))
    assert graph.attention == {"q", "k", "v"}
    assert ("q" in graph.unscaled) == (score is bare)
    assert "v" not in graph.unscaled


class Fused(nn.Module):
    def __init__(self, scale: float | None) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(4, 4) for _ in range(3))
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.q(x), self.k(x), self.v(x)
        return functional.scaled_dot_product_attention(q, k, v, scale=self.scale)


@pytest.mark.parametrize(("scale", "is_unscaled"), [(None, False), (0.5, False), (1.0, True)])
def test_torchs_attention_scales_scores_unless_it_is_told_otherwise(
    scale: float | None, is_unscaled: bool
) -> None:
    assert ("q" in trace(Fused(scale)).unscaled) == is_unscaled


class TalkingHeads(nn.Module):
    """Layers that mix heads before and after the softmax, as in CaiT."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(8, 8) for _ in range(4))
        self.before, self.after = nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x).view(1, 3, 2, 4).transpose(1, 2) for layer in (self.q, self.k, self.v))
        scores = 0.5 * q @ k.transpose(-2, -1)
        scores = self.before(scores.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).softmax(-1)
        scores = self.after(scores.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.out((scores @ v).transpose(1, 2).reshape(1, 3, 8))


def test_talking_heads_are_no_queries() -> None:
    graph = trace(TalkingHeads())
    assert graph.head_mixers == {"before", "after"}
    assert graph.attention == {"q", "k", "v"}


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.fc1, self.fc2 = nn.Conv2d(4, 2, 1), nn.Conv2d(2, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x))
        gate = self.fc2(self.fc1(y.mean((2, 3), keepdim=True)).relu()).sigmoid()
        return x + y * gate


def test_a_gates_layers_end_no_branch() -> None:
    graph = trace(SqueezeExcite())
    assert graph.branches == (Branch(("conv",), "norm"),)
    assert graph.depth == dict.fromkeys(("conv", "fc1", "fc2"), 1)


class Standardized(nn.Conv2d):
    """A convolution that standardizes its weight, as ScaledStdConv2d does."""

    def forward(self, x: Tensor) -> Tensor:
        weight = functional.batch_norm(
            self.weight.reshape(1, self.out_channels, -1), None, None, training=True
        ).reshape_as(self.weight)
        return functional.conv2d(x, weight, self.bias, padding=self.padding)


def test_convolutions_that_standardize_their_weights_are_no_plain_chain() -> None:
    layers = (m for _ in range(10) for m in (Standardized(4, 4, 3, padding=1), nn.ReLU()))
    graph = trace(nn.Sequential(*layers))
    assert set(graph.depth.values()) == {1}
    assert graph.activation["0"] == ActivationKind("relu")
    assert graph.norms == {}


class Chain(nn.Sequential):
    """A class of its own that changes nothing."""


class Backwards(nn.Sequential):
    """A chain in which the modules are called in another order."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for module in reversed(self):  # type: ignore[call-overload]
            x = module(x)
        return x


class Doubled(nn.Module):
    """What has to be traced itself."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + x


def _chains() -> dict[str, nn.Module]:
    layer = nn.Linear(3, 3)
    return {
        "empty": nn.Sequential(),
        "nested": nn.Sequential(
            nn.Sequential(), nn.ReLU(), nn.Sequential(layer, nn.BatchNorm1d(3), nn.GELU())
        ),
        "shared": nn.Sequential(layer, nn.ReLU(), nn.Sequential(layer, nn.Softmax(-1))),
        "images": nn.Sequential(
            nn.Conv2d(3, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), layer
        ),
        "several layers": nn.Sequential(
            nn.Embedding(3, 4), nn.TransformerEncoderLayer(4, 2), nn.LSTM(4, 4)
        ),
        "own class": Chain(Chain(nn.Linear(2, 2), nn.PReLU()), nn.Linear(2, 2)),
    }


@pytest.mark.parametrize("name", list(_chains()))
def test_a_chain_of_modules_has_the_flow_that_a_trace_finds(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = _chains()[name]
    assert fx_tracer.chain(model) is not None
    steps = model_to_flow.flow_of(model).steps
    monkeypatch.setattr(model_to_flow, "chain", lambda _: None)
    assert steps == model_to_flow.flow_of(model).steps


def _with_forward_of_its_own() -> nn.Module:
    model = nn.Sequential(nn.Linear(2, 2))
    model.forward = lambda x: x  # type: ignore[method-assign, assignment]
    return model


@pytest.mark.parametrize(
    "model",
    [
        nn.Linear(2, 2),
        Backwards(nn.Linear(2, 2), nn.ReLU()),
        nn.Sequential(Backwards(nn.Linear(2, 2), nn.ReLU())),
        nn.Sequential(nn.Linear(2, 2), Doubled()),
        _with_forward_of_its_own(),
    ],
    ids=["no chain", "own order", "own order inside", "to be traced", "own forward"],
)
def test_what_does_more_than_call_its_modules_in_order_is_traced(model: nn.Module) -> None:
    assert fx_tracer.chain(model) is None
