"""Recipes of transformers and of residual networks: what each parameter gets, and how large."""

import copy
import hashlib
import math

import pytest
import torch
from torch import nn

import pyinit
from pyinit._random.rng import Key
from pyinit.initializers import (
    ONES,
    ZEROS,
    Constant,
    KaimingNormal,
    KaimingUniform,
    LecunNormal,
    Normal,
    Padded,
    Parts,
    TruncNormal,
    Weight,
    XavierUniform,
    make,
)
from pyinit.models import GPT2, Llama, ResNet, VisionTransformer
from pyinit.whole_model.network import Network
from pyinit.whole_model.recipes import recipe
from pyinit.whole_model.recipes.mimetic import Mimetic, _factors

HE = KaimingNormal(mode="fan_out", nonlinearity="relu")
TRUNCATED = TruncNormal(std=0.02)


def meta(build, **config):
    with torch.device("meta"):
        return build(**config)


def gpt2(width=16, layers=3):
    return meta(GPT2, vocab=20, context=8, width=width, layers=layers, heads=2)


def vit(width=16):
    return meta(
        VisionTransformer, image=8, patch=4, width=width, layers=2, heads=2, hidden=32, classes=10
    )


def llama(kv_heads=2):
    return meta(
        Llama, vocab=20, width=16, hidden=32, layers=2, heads=4, kv_heads=kv_heads, head_dim=4
    )


def resnet():
    return meta(ResNet, blocks=(2, 1), width=8, classes=10)


def huggingface(name, **config):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    configs = {
        "gpt2": ("GPT2LMHeadModel", "GPT2Config", {"n_embd": 16, "n_layer": 3, "n_head": 2}),
        "bert": ("BertForMaskedLM", "BertConfig", {**sizes, "num_hidden_layers": 3}),
        "vit": (
            "ViTForImageClassification",
            "ViTConfig",
            {**sizes, "num_hidden_layers": 2, "image_size": 8, "patch_size": 4},
        ),
        "resnet": (
            "ResNetForImageClassification",
            "ResNetConfig",
            {"embedding_size": 8, "hidden_sizes": [16, 32], "depths": [2, 1]},
        ),
        "gemma": (
            "GemmaForCausalLM",
            "GemmaConfig",
            {**sizes, "num_hidden_layers": 2, "head_dim": 8},
        ),
    }
    model, configuration, small = configs[name]
    words = {} if name in ("vit", "resnet") else {"vocab_size": 20, "pad_token_id": 0}
    ids = {"bos_token_id": 1, "eos_token_id": 1} if words else {}
    options = {**small, **words, **ids, **config}
    return meta(
        getattr(transformers, model), config=getattr(transformers, configuration)(**options)
    )


def chosen(name, model, **options):
    """The initializers by parameter, each able to fill it."""
    network = Network(model)
    choices = recipe(name, **options).choose(network)
    for site in network.sites:
        if site.name in choices:
            choices[site.name].initializer.resolve(site.weight)
    return {name: choice.initializer for name, choice in choices.items()}


def reasons(name, model, **options):
    choices = recipe(name, **options).choose(Network(model))
    return {name: choice.why for name, choice in choices.items()}


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("gpt2", gpt2),
        ("gpt2", lambda: huggingface("bert")),
        ("llama", llama),
        ("vit", vit),
        ("vit", lambda: huggingface("vit")),
        ("mimetic", vit),
        ("resnet", resnet),
        ("resnet", lambda: huggingface("resnet")),
        ("fixup", resnet),
    ],
)
def test_every_parameter_of_the_models_it_is_for_has_a_choice(name, model):
    network = Network(model())
    assert recipe(name).choose(network).keys() == {site.name for site in network.sites}


# ---- Language models -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model", [gpt2, lambda: huggingface("gpt2")], ids=["pyinit", "transformers"]
)
def test_gpt2_scales_residual_projections_by_the_root_of_the_number_of_branches(model):
    choices = chosen("gpt2", model())
    for name, initializer in choices.items():
        if name.endswith("c_proj.weight"):
            assert initializer == Normal(0.0, 0.02 / math.sqrt(6))
        elif name.endswith("bias"):
            assert initializer == ZEROS
        elif ".ln_" in name:
            assert initializer == ONES
        else:
            assert initializer == Normal(0.0, 0.02)


def test_gpt2_finds_the_residual_projections_of_bert_and_keeps_the_padding_row_zero():
    choices = chosen("gpt2", huggingface("bert"), std=0.04)
    scaled = {n for n, c in choices.items() if c == Normal(0.0, 0.04 / math.sqrt(6))}
    layers = [f"bert.encoder.layer.{i}" for i in range(3)]
    assert scaled == {f"{x}.{y}output.dense.weight" for x in layers for y in ("", "attention.")}
    assert choices["bert.embeddings.word_embeddings.weight"] == Padded(Normal(0.0, 0.04), 0)
    assert choices["cls.predictions.bias"] == ZEROS


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_gpt2_counts_the_branches_of_encoder_and_decoder_apart():
    choices = chosen("gpt2", meta(nn.Transformer, d_model=8, nhead=2, dim_feedforward=16))
    assert choices["encoder.layers.5.linear2.weight"].std == 0.02 / math.sqrt(12)
    assert choices["decoder.layers.5.linear2.weight"].std == 0.02 / math.sqrt(18)
    assert choices["decoder.layers.5.multihead_attn.out_proj.weight"].std == 0.02 / math.sqrt(18)
    assert choices["decoder.layers.5.linear1.weight"].std == 0.02


def test_gpt2_counts_the_experts_of_a_block_as_one_and_leaves_out_heads():
    block = nn.ModuleDict(
        {"experts": nn.ModuleList(nn.ModuleDict({"w2": nn.Linear(4, 4)}) for _ in "123")}
    )
    model = nn.ModuleDict(
        {
            "layers": nn.ModuleList([block]),
            "classifier": nn.ModuleDict({"out_proj": nn.Linear(4, 4)}),
        }
    )
    choices = chosen("gpt2", model)
    assert choices["layers.0.experts.2.w2.weight"] == Normal(0.0, 0.02)
    assert choices["classifier.out_proj.weight"] == Normal(0.0, 0.02)
    assert "one of 1" in reasons("gpt2", model)["layers.0.experts.2.w2.weight"]


@pytest.mark.parametrize("name", ["SelfAttention", "EncDecAttention", "LocalSelfAttention"])
def test_gpt2_scales_what_ends_t5s_attention(name):
    attention = nn.ModuleDict({name: nn.ModuleDict({"o": nn.Linear(4, 4), "q": nn.Linear(4, 4)})})
    two = nn.ModuleDict({"block": nn.ModuleList([copy.deepcopy(attention), attention])})
    choices = chosen("gpt2", two)
    assert choices[f"block.1.{name}.o.weight"] == Normal(0.0, 0.02 / math.sqrt(2))
    assert choices[f"block.1.{name}.q.weight"] == Normal(0.0, 0.02)


def test_gpt2_says_when_it_recognizes_no_residual_projection():
    assert "no residual projection" in reasons("gpt2", nn.Linear(3, 3))["weight"]


def test_llama_does_not_scale_with_depth():
    choices = chosen("llama", llama())
    assert {c for n, c in choices.items() if "norm" not in n} == {Normal(0.0, 0.02)}
    assert {c for n, c in choices.items() if "norm" in n} == {ONES}


def test_norms_that_multiply_by_one_more_than_their_scale_start_at_zero():
    choices = chosen("llama", huggingface("gemma", num_key_value_heads=2))
    assert choices["model.norm.weight"] == ZEROS


# ---- Vision Transformers -------------------------------------------------------------------------

VIT_NAMES = {
    "pyinit": {
        "position": "encoder.pos_embedding",
        "token": "class_token",
        "patches": "conv_proj",
        "fused": "encoder.layers.encoder_layer_1.self_attention.in_proj_weight",
        "mlp": "encoder.layers.encoder_layer_1.mlp.3",
        "head": "heads.head",
    },
    "transformers": {
        "position": "vit.embeddings.position_embeddings",
        "token": "vit.embeddings.cls_token",
        "patches": "vit.embeddings.patch_embeddings.projection",
        "mlp": "vit.layers.1.mlp.fc2",
        "head": "classifier",
    },
}
VIT_MODELS = {"pyinit": vit, "transformers": lambda: huggingface("vit", num_labels=10)}


@pytest.mark.parametrize("kind", VIT_NAMES)
def test_vit_as_timm(kind):
    names, choices = VIT_NAMES[kind], chosen("vit", VIT_MODELS[kind]())
    assert choices[names["position"]] == TRUNCATED
    assert choices[names["token"]] == Normal(0.0, 1e-6)
    assert choices[names["patches"] + ".weight"] == KaimingUniform(a=math.sqrt(5))
    assert choices[names.get("fused", names["mlp"] + ".weight")] == TRUNCATED
    for layer in ("mlp", "head"):
        assert choices[names[layer] + ".weight"] == TRUNCATED
        assert choices[names[layer] + ".bias"] == ZEROS


@pytest.mark.parametrize("kind", VIT_NAMES)
def test_vit_as_jax(kind):
    names, choices = VIT_NAMES[kind], chosen("vit", VIT_MODELS[kind](), style="jax")
    assert choices[names["patches"] + ".weight"] == LecunNormal()
    assert choices[names["patches"] + ".bias"] == ZEROS
    assert choices[names["mlp"] + ".weight"] == XavierUniform()
    assert choices[names["mlp"] + ".bias"] == Normal(0.0, 1e-6)
    assert choices[names["head"] + ".weight"] == ZEROS
    assert choices[names["head"] + ".bias"] == ZEROS
    if "fused" in names:
        assert choices[names["fused"]] == Parts((XavierUniform(),) * 3)


@pytest.mark.parametrize(("bias", "value"), [(-3.0, -3.0), ("-log(classes)", -math.log(10))])
def test_vit_head_bias(bias, value):
    assert chosen("vit", vit(), style="jax", head_bias=bias)["heads.head.bias"] == Constant(value)


@pytest.mark.parametrize("options", [{"style": "tim"}, {"head_bias": "log"}])
def test_vit_refuses_unknown_options(options):
    (name,) = options
    with pytest.raises(ValueError, match=name):
        chosen("vit", vit(), **options)


# ---- Mimetic attention ---------------------------------------------------------------------------


class Separate(nn.Module):
    """Attention by separate layers; ``inner`` channels in all heads."""

    def __init__(self, width=12, heads=3, inner=12, kv_inner=None):
        super().__init__()
        self.num_heads = heads
        self.q_proj = nn.Linear(width, inner)
        self.k_proj, self.v_proj = (nn.Linear(width, kv_inner or inner) for _ in range(2))
        self.out_proj = nn.Linear(inner, width)


class Fused(nn.Module):
    """As timm's."""

    def __init__(self, width=12, heads=3):
        super().__init__()
        self.num_heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)


class Conv1D(nn.Module):
    """As transformers': weight (in, out)."""

    def __init__(self, nf, nx):
        super().__init__()
        self.nf = nf
        self.weight = nn.Parameter(torch.empty(nx, nf))


class Transposed(nn.Module):
    def __init__(self, width=12, heads=3):
        super().__init__()
        self.num_heads = heads
        self.c_attn = Conv1D(3 * width, width)
        self.c_proj = Conv1D(width, width)


ATTENTION = {
    "separate": (Separate, ("q_proj", "k_proj", "v_proj", "out_proj")),
    "fused": (Fused, ("qkv", "proj")),
    "transposed": (Transposed, ("c_attn", "c_proj")),
    "torch": (lambda: nn.MultiheadAttention(12, 3), ("in_proj_weight", "out_proj")),
}


def filled(model, order=1, seed=7, **options):
    """The model's weights by mimetic initialization, filled in that order."""
    network = Network(model)
    choices = recipe("mimetic", **options).choose(network)
    for site in network.sites[::order]:
        initializer = choices[site.name].initializer
        if isinstance(initializer, Mimetic):
            _factors.cache_clear()
            (block,) = initializer.resolve(site.weight)
            block.drawn.fill_(site.tensor, Key(seed, 1))
    return {site.name: site.tensor.detach().double() for site in network.sites}


def projections(kind, weights):
    """Query, key, value and output as matrices that multiply from the left."""
    names = [f"attn.{name}" for name in ATTENTION[kind][1]]
    found = [weights[name if name in weights else name + ".weight"] for name in names]
    if kind == "transposed":
        found = [weight.T for weight in found]
    return found if len(found) == 4 else [*found[0].chunk(3), found[1]]


def wanted(product, head, alpha, beta):
    """alpha Z + beta I of width 12, Z from the stream of its name."""
    name = f"attn.{product}.{head}".encode()
    stream = int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little")
    z = torch.empty(12, 12, dtype=torch.float64)
    pyinit.normal_(z, std=12**-0.5, generator=Key(7, stream))
    return alpha * z + beta * torch.eye(12)


def cut(matrix, rank):
    """The nearest matrix of that rank."""
    u, s, vh = torch.linalg.svd(matrix)
    return u[:, :rank] * s[:rank] @ vh[:rank]


def attention(kind):
    return nn.ModuleDict({"attn": ATTENTION[kind][0]()})


@pytest.mark.parametrize(
    "options", [{}, {"alpha1": 0.5, "beta1": 0.9, "alpha2": 0.1, "beta2": 0.2}]
)
@pytest.mark.parametrize("kind", ATTENTION)
def test_mimetic_products_are_noise_and_identity_in_the_rank_of_a_head(kind, options):
    numbers = {"alpha1": 0.7, "beta1": 0.7, "alpha2": 0.4, "beta2": 0.4} | options
    q, k, v, o = projections(kind, filled(attention(kind), **options))
    for head, (query, key) in enumerate(zip(q.chunk(3), k.chunk(3), strict=True)):
        expected = cut(wanted("qk", head, numbers["alpha1"], numbers["beta1"]), 4)
        torch.testing.assert_close(query.T @ key, expected, rtol=0, atol=1e-6)
    expected = wanted("vo", 0, numbers["alpha2"], -numbers["beta2"])
    torch.testing.assert_close((o @ v).T, expected, rtol=0, atol=1e-6)


def test_mimetic_factors_are_of_one_size():
    q, k, v, o = projections("separate", filled(attention("separate")))
    torch.testing.assert_close(q.norm(dim=1), k.norm(dim=1), rtol=1e-5, atol=0)
    torch.testing.assert_close(v.norm(dim=1), o.norm(dim=0), rtol=1e-5, atol=0)


@pytest.mark.parametrize("kind", ATTENTION)
def test_mimetic_values_do_not_depend_on_the_order_of_filling(kind):
    forward, backward = (filled(attention(kind), order) for order in (1, -1))
    for one, other in zip(projections(kind, forward), projections(kind, backward), strict=True):
        assert torch.equal(one, other)


def test_mimetic_layers_and_seeds_have_values_of_their_own():
    weights = filled(nn.ModuleDict({"a": Separate(), "b": Separate()}))
    other = filled(nn.ModuleDict({"a": Separate(), "b": Separate()}), seed=8)
    query = weights["a.q_proj.weight"]
    assert not torch.equal(query, weights["b.q_proj.weight"])
    assert not torch.equal(query, other["a.q_proj.weight"])


def test_mimetic_leaves_torchs_generator_alone():
    model = Separate()
    before = torch.get_rng_state()
    filled(model)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        (lambda: Separate(kv_inner=4), "differ in size"),
        (lambda: Separate(inner=24), "wider than its inputs"),
        (lambda: Separate(heads=0), "number of heads"),
        (lambda: Separate(heads=5), "number of heads"),
        (lambda: nn.ModuleDict({"cross_attn": Separate()}), "another sequence"),
    ],
)
def test_mimetic_leaves_other_attention_as_in_vit_and_says_why(model, problem):
    choices, whys = chosen("mimetic", meta(model)), reasons("mimetic", meta(model))
    for name, why in whys.items():
        if name.endswith("weight"):
            assert choices[name] == TRUNCATED
            assert problem in why


def test_mimetic_is_for_models_with_attention():
    with pytest.raises(ValueError, match="no attention layer"):
        chosen("mimetic", resnet())


def test_mimetic_needs_a_key():
    with pytest.raises(ValueError, match="seed="):
        Mimetic("attn", "v", transposed=False).fill_(torch.empty(4, 4), torch.Generator())


@pytest.mark.parametrize(
    "arguments", [{"part": "w"}, {"part": "q", "heads": 0}, {"part": "q", "beta1": math.nan}]
)
def test_mimetic_refuses_bad_arguments(arguments):
    with pytest.raises(ValueError, match=list(arguments)[-1]):
        make("mimetic", of="attn", **arguments)


@pytest.mark.parametrize(
    ("part", "shape"), [("q", (6, 4)), ("qkv", (8, 4)), ("v", (8, 4)), ("o", (4, 8)), ("q", (4,))]
)
def test_mimetic_refuses_shapes_before_it_fills(part, shape):
    heads = 4 if part == "q" else 1
    with pytest.raises(ValueError, match="mimetic"):
        Mimetic("attn", part, heads).resolve(Weight(shape))


# ---- Residual networks ---------------------------------------------------------------------------

RESNETS = {
    "pyinit": (
        resnet,
        ["layer1.0", "layer1.1", "layer2.0"],
        ["conv1", "conv2", "conv3"],
        "bn3",
        "fc",
    ),
    **{
        f"transformers-{kind}": (
            lambda kind=kind: huggingface("resnet", layer_type=kind),
            [
                f"resnet.encoder.stages.{block}"
                for block in ("0.layers.0", "0.layers.1", "1.layers.0")
            ],
            [f"layer.{i}.convolution" for i in range(count)],
            f"layer.{count - 1}.normalization",
            "classifier.1",
        )
        for kind, count in (("basic", 2), ("bottleneck", 3))
    },
}


@pytest.mark.parametrize("zero_last", [False, True])
@pytest.mark.parametrize("kind", RESNETS)
def test_resnet_is_he_by_fan_out_and_may_start_blocks_as_the_identity(kind, zero_last):
    build, blocks, _, norm, head = RESNETS[kind]
    model = build()
    last = {f"{block}.{norm}.weight" for block in blocks}
    for name, initializer in chosen("resnet", model, zero_last=zero_last).items():
        module = model.get_submodule(name.rpartition(".")[0])
        if isinstance(module, nn.Conv2d):
            assert initializer == HE
        elif name.endswith("weight") and isinstance(module, nn.BatchNorm2d):
            assert initializer == (ZEROS if zero_last and name in last else ONES)
    torchs = chosen("torch", model)
    assert chosen("resnet", model)[f"{head}.weight"] == torchs[f"{head}.weight"]


def test_zero_last_needs_residual_branches():
    with pytest.raises(ValueError, match="zero_last"):
        chosen("resnet", nn.Sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)), zero_last=True)


@pytest.mark.parametrize("kind", RESNETS)
def test_fixup_scales_branches_by_depth_and_ends_them_with_zero(kind):
    build, blocks, layers, _, head = RESNETS[kind]
    choices = chosen("fixup", build())
    gain = math.sqrt(2) * 3 ** (-1 / (2 * len(layers) - 2))
    for block in blocks:
        for layer in layers[:-1]:
            scaled = choices[f"{block}.{layer}.weight"]
            assert scaled.mode == "fan_out"
            assert scaled.nonlinearity == pytest.approx(gain)
        assert choices[f"{block}.{layers[-1]}.weight"] == ZEROS
    assert choices[f"{head}.weight"] == choices[f"{head}.bias"] == ZEROS


class Block(nn.Module):
    """A residual block without norms, with the scalars of Fixup, SkipInit and ReZero."""

    def __init__(self, scalars=()):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.shortcut = nn.Identity()
        for name in scalars:
            self.register_parameter(name, nn.Parameter(torch.ones(())))
        self.act = nn.PReLU()

    def forward(self, x):
        y = self.conv2(self.act(self.conv1(x)))
        for name in self._parameters:
            y = y * self.get_parameter(name)
        return self.shortcut(x) + y


def residual(*scalars):
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), Block(scalars), Block(scalars), nn.Flatten(), nn.Linear(4, 2)
    )


def test_fixup_sets_biases_to_zero_and_multipliers_to_one():
    choices = chosen("fixup", residual("bias1a", "scale"))
    assert choices["1.bias1a"] == choices["1.conv1.bias"] == choices["0.bias"] == ZEROS
    assert choices["1.scale"] == ONES
    assert choices["1.act.weight"] == Constant(0.25)
    assert choices["0.weight"] == HE
    assert choices["2.conv1.weight"].nonlinearity == pytest.approx(math.sqrt(2) * 2**-0.5)


@pytest.mark.parametrize("head_first", [True, False])
def test_fixup_starts_no_embedding_at_zero(head_first):
    head, embedding = nn.Linear(4, 10), nn.Embedding(10, 4)
    head.weight = embedding.weight
    blocks = {"embed": embedding, "block": Block(), "head": head}
    names = reversed(blocks) if head_first else blocks
    model = nn.ModuleDict({name: blocks[name] for name in names})
    assert ZEROS not in [chosen("fixup", model).get(f"{name}.weight") for name in ("embed", "head")]


@pytest.mark.parametrize(
    ("name", "scalar", "as_in"),
    [
        ("skipinit", "alpha", "resnet"),
        ("skipinit", "skipinit_gain", "resnet"),
        ("rezero", "resweight", "torch"),
        ("rezero", "alpha", "torch"),
    ],
)
def test_the_scalars_of_branches_start_at_zero_and_all_else_as_elsewhere(name, scalar, as_in):
    model = residual(scalar)
    before, after = chosen(as_in, model), chosen(name, model)
    changed = {key for key in after if after[key] != before.get(key)}
    assert changed == {f"1.{scalar}", f"2.{scalar}"}
    assert all(after[key] == ZEROS for key in changed)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fixup", "no residual branch"),
        ("skipinit", "skipinit_gain"),
        ("rezero", "resweight"),
    ],
)
def test_recipes_for_residual_networks_refuse_others(name, message):
    with pytest.raises(ValueError, match=message):
        chosen(name, nn.Sequential(nn.Linear(3, 3), nn.PReLU(), nn.Linear(3, 1)))


# ---- Maximal update ------------------------------------------------------------------------------


class MLP(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.embed = nn.Embedding(10, width)
        self.input = nn.Linear(5, width)
        self.hidden = nn.Linear(width, 3 * width)
        self.transposed = Conv1D(width, 3 * width)
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, 7)


def mup(width, **options):
    return chosen("mup", meta(MLP, width=width), base=meta(MLP, width=16), **options)


@pytest.mark.parametrize("width", [32, 128])
def test_mup_deviations_by_width(width):
    choices = mup(width, sigma=2.0, readout_zero_init=False)
    ratio = width / 16
    assert choices["embed.weight"] == Normal(0.0, 1.0)
    assert choices["input.weight"].std == pytest.approx(2 / math.sqrt(5))
    assert choices["hidden.weight"].std == pytest.approx(2 / math.sqrt(16 * ratio))
    assert choices["transposed.weight"].std == pytest.approx(2 / math.sqrt(48 * ratio))
    assert choices["output.weight"].std == pytest.approx(2 / math.sqrt(16) / ratio)
    assert choices["hidden.bias"] == ZEROS
    assert choices["norm.weight"] == ONES


def test_mup_says_which_kind_and_how_much_wider():
    whys = reasons("mup", meta(MLP, width=64), base=meta(MLP, width=16))
    assert whys["input.weight"] == "input, width x4"
    assert whys["hidden.weight"] == "hidden, width x4"
    assert whys["output.weight"] == "output, width x4"


def test_mup_starts_outputs_at_zero():
    assert mup(32)["output.weight"] == ZEROS


def test_mup_takes_shapes_for_a_base():
    shapes = {name: tuple(p.shape) for name, p in meta(MLP, width=16).named_parameters()}
    assert chosen("mup", meta(MLP, width=32), base=shapes) == mup(32)


def test_mup_finds_both_uses_of_a_tied_embedding():
    whys = reasons("mup", gpt2(width=32), base=gpt2(width=16))
    assert "input" in whys["transformer.wte.weight"]
    assert "divide the logits" in whys["transformer.wte.weight"]


@pytest.mark.parametrize(
    ("base", "message"),
    [
        (None, "needs base="),
        (3, "needs base="),
        ({}, "no parameter weight"),
        ({"weight": (2,), "bias": (2,)}, "as many dimensions"),
    ],
)
def test_mup_refuses_what_is_no_base(base, message):
    with pytest.raises(ValueError, match=message):
        chosen("mup", nn.Linear(4, 4), base=base)
