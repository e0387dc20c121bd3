"""Initialize small models of many architectures, and see how they start and train: docs/recipes.md.

Each architecture starts from its own initialization, from ``auto``, and from the recipe that fits it, in
memory and from the meta device. Measured are, on one fixed random batch:

* the loss at step 0, beside the log of the number of classes
* the standard deviation of the attention logits, the largest of all calls
* the smallest and the largest variance of a block's output
* the root mean square of the gradient of the first matrix over that of the last one
* the loss after 30 steps of Adam

A run is a process of its own with a time limit, and a line of JSON is appended for each, so that the
program goes on where it was stopped. It needs transformers and timm::

    python tools/zoo.py run zoo.jsonl --only "llama|timm_.*"
    python tools/zoo.py table zoo.jsonl > table.md
"""

import json
import math
import multiprocessing
import re
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import click
import torch
from torch import Tensor, nn
from torch.nn import functional

import pyinit

STEPS, RATE, BATCH, LENGTH = 30, 1e-3, 4, 16
SECONDS = 240


class Batch(NamedTuple):
    """What a model is called with, and how the loss comes from what it returns."""

    inputs: tuple[Tensor, ...]
    named: dict[str, Any]
    loss: Callable[[Any], Tensor]
    classes: int


class Architecture(NamedTuple):
    """A row of the zoo.

    build: makes the model, with its own initialization
    batch: makes the batch
    recipe: the recipe that fits it
    """

    build: Callable[[], nn.Module]
    batch: Callable[[], Batch]
    recipe: str


# ---- Batches -----------------------------------------------------------------------------------------

VOCABULARY, CLASSES = 60, 10


def _own_loss(output: Any) -> Tensor:
    loss: Tensor = output.loss
    return loss


def _ids(length: int = LENGTH) -> Tensor:
    return torch.randint(3, VOCABULARY, (BATCH, length))


def text() -> Batch:
    ids = _ids()
    return Batch((), {"input_ids": ids, "labels": ids}, _own_loss, VOCABULARY)


def translation() -> Batch:
    return Batch((), {"input_ids": _ids(), "labels": _ids()}, _own_loss, VOCABULARY)


def hf_images(size: int) -> Callable[[], Batch]:
    def make() -> Batch:
        named = {
            "pixel_values": torch.randn(BATCH, 3, size, size),
            "labels": torch.arange(BATCH) % CLASSES,
        }
        return Batch((), named, _own_loss, CLASSES)

    return make


def pairs() -> Batch:
    named = {
        "input_ids": _ids(),
        "pixel_values": torch.randn(BATCH, 3, 16, 16),
        "return_loss": True,
    }
    return Batch((), named, _own_loss, BATCH)


def speech() -> Batch:
    named = {"input_features": torch.randn(BATCH, 8, 40), "labels": _ids()}
    return Batch((), named, _own_loss, VOCABULARY)


def sound() -> Batch:
    named = {"input_values": torch.randn(BATCH, 1600), "labels": torch.arange(BATCH) % CLASSES}
    return Batch((), named, _own_loss, CLASSES)


def classified(*shape: int) -> Callable[[], Batch]:
    """Normal inputs, and a class for each."""

    def make() -> Batch:
        target = torch.arange(BATCH) % CLASSES
        x = torch.randn(BATCH, *shape)
        return Batch((x,), {}, lambda y: functional.cross_entropy(y, target), CLASSES)

    return make


# ---- Models ------------------------------------------------------------------------------------------

SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GROUPED = {**SIZES, "num_key_value_heads": 2, "head_dim": 16}
VISION = {
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "image_size": 16,
    "patch_size": 4,
    "num_labels": CLASSES,
}
STAGES = {
    "image_size": 32,
    "patch_size": 4,
    "embed_dim": 16,
    "depths": [2, 2],
    "num_heads": [2, 4],
    "window_size": 4,
    "num_labels": CLASSES,
}
SMALL = {"depth": 4, "embed_dim": 64}
T5 = {
    "vocab_size": VOCABULARY,
    "d_model": 64,
    "d_kv": 16,
    "d_ff": 128,
    "num_layers": 3,
    "num_heads": 4,
    "decoder_start_token_id": 0,
}
TWO_STACKS = {
    "vocab_size": VOCABULARY,
    "d_model": 64,
    "encoder_layers": 3,
    "decoder_layers": 3,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}


def hf(kind: str, head: str, **config: Any) -> Callable[[], nn.Module]:
    """A model of transformers, from a config."""

    def build() -> nn.Module:
        _declare_operators()
        transformers = import_module("transformers")
        transformers.logging.set_verbosity_error()
        options = getattr(transformers, kind + "Config")(**config)
        _without_dropout(options)
        model: nn.Module = getattr(transformers, kind + head)(options)
        return model

    return build


def _without_dropout(options: Any) -> None:
    """Set every rate of a config, and of the configs that it holds, to 0: models read some in functions."""
    for name, value in vars(options).items():
        if hasattr(value, "to_dict"):
            _without_dropout(value)
        elif re.search("drop|mask_.*_prob", name) and isinstance(value, float):
            setattr(options, name, 0.0)


def timm(name: str, **options: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        _declare_operators()
        model: nn.Module = import_module("timm").create_model(name, num_classes=CLASSES, **options)
        return model

    return build


def torchvision(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        _declare_operators()
        models = import_module("torchvision.models")
        model: nn.Module = models.get_model(name, weights=None, num_classes=CLASSES)
        return model

    return build


def _declare_operators() -> None:
    """torchvision's wheel for CUDA can be imported beside a torch without it if its operators exist."""
    if not hasattr(torch.ops.torchvision, "nms"):
        for name in ("nms", "qnms"):
            schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            torch.library.define(f"torchvision::{name}", schema)


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(16, 64, num_layers=2, batch_first=True)
        self.head = nn.Linear(64, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])


class Encoder(nn.Module):
    def __init__(self, norm_first: bool) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            64, 4, 128, dropout=0.0, batch_first=True, norm_first=norm_first
        )
        self.encoder = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
        self.head = nn.Linear(64, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x).mean(1))


class UNet(nn.Module):
    """Two levels, and a mean over the picture at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList((self._block(3, 16), self._block(16, 32)))
        self.middle = self._block(32, 64)
        self.up = nn.ModuleList(
            (nn.ConvTranspose2d(64, 32, 2, stride=2), nn.ConvTranspose2d(32, 16, 2, stride=2))
        )
        self.join = nn.ModuleList((self._block(64, 32), self._block(32, 16)))
        self.head = nn.Conv2d(16, CLASSES, 1)

    @staticmethod
    def _block(inputs: int, outputs: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        sides = []
        for block in self.down:
            sides.append(block(x))
            x = functional.max_pool2d(sides[-1], 2)
        x = self.middle(x)
        for up, join, side in zip(self.up, self.join, reversed(sides), strict=True):
            x = join(torch.cat((side, up(x)), 1))
        return self.head(x).mean((2, 3))


class GAN(nn.Module):
    """DCGAN's generator, and its discriminator with a class for each picture."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(
            nn.ConvTranspose2d(16, 64, 4, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.ConvTranspose2d(64, 32, 4, 2, 1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.ConvTranspose2d(32, 3, 4, 2, 1),
            nn.Tanh(),
        )
        self.discriminator = nn.Sequential(
            nn.Conv2d(3, 32, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(32, 64, 4, 2, 1, bias=False),
            nn.BatchNorm2d(64),
            nn.LeakyReLU(0.2),
            nn.Conv2d(64, CLASSES, 4),
            nn.Flatten(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.discriminator(self.generator(x))


ROWS: dict[str, Architecture] = {
    # transformers, text
    "gpt2": Architecture(
        hf("GPT2", "LMHeadModel", vocab_size=VOCABULARY, n_embd=64, n_layer=4, n_head=4),
        text,
        "gpt2",
    ),
    "gpt_neo": Architecture(
        hf(
            "GPTNeo",
            "ForCausalLM",
            vocab_size=VOCABULARY,
            hidden_size=64,
            num_layers=4,
            num_heads=4,
            attention_types=[[["global", "local"], 2]],
        ),
        text,
        "gpt2",
    ),
    "gpt_neox": Architecture(hf("GPTNeoX", "ForCausalLM", **SIZES), text, "gpt2"),
    "opt": Architecture(
        hf("OPT", "ForCausalLM", **SIZES, ffn_dim=128, word_embed_proj_dim=64), text, "gpt2"
    ),
    "bloom": Architecture(
        hf("Bloom", "ForCausalLM", vocab_size=VOCABULARY, hidden_size=64, n_layer=4, n_head=4),
        text,
        "gpt2",
    ),
    "falcon": Architecture(hf("Falcon", "ForCausalLM", **SIZES), text, "gpt2"),
    "llama": Architecture(hf("Llama", "ForCausalLM", **GROUPED), text, "llama"),
    "mistral": Architecture(hf("Mistral", "ForCausalLM", **GROUPED), text, "llama"),
    "mixtral": Architecture(
        hf("Mixtral", "ForCausalLM", **GROUPED, num_local_experts=4), text, "llama"
    ),
    "qwen2": Architecture(hf("Qwen2", "ForCausalLM", **GROUPED), text, "llama"),
    "qwen2_moe": Architecture(
        hf(
            "Qwen2Moe",
            "ForCausalLM",
            **GROUPED,
            num_experts=4,
            num_experts_per_tok=2,
            moe_intermediate_size=64,
            shared_expert_intermediate_size=64,
        ),
        text,
        "llama",
    ),
    "qwen3": Architecture(hf("Qwen3", "ForCausalLM", **GROUPED), text, "llama"),
    "gemma": Architecture(hf("Gemma", "ForCausalLM", **GROUPED), text, "llama"),
    "gemma2": Architecture(hf("Gemma2", "ForCausalLM", **GROUPED), text, "llama"),
    "phi": Architecture(hf("Phi", "ForCausalLM", **SIZES), text, "llama"),
    "phi3": Architecture(hf("Phi3", "ForCausalLM", **SIZES), text, "llama"),
    "olmo2": Architecture(hf("Olmo2", "ForCausalLM", **SIZES), text, "llama"),
    "t5": Architecture(hf("T5", "ForConditionalGeneration", **T5), translation, "torch"),
    "mt5": Architecture(hf("MT5", "ForConditionalGeneration", **T5), translation, "torch"),
    "bart": Architecture(hf("Bart", "ForConditionalGeneration", **TWO_STACKS), translation, "gpt2"),
    "bert": Architecture(hf("Bert", "ForMaskedLM", **SIZES), text, "gpt2"),
    "roberta": Architecture(hf("Roberta", "ForMaskedLM", **SIZES), text, "gpt2"),
    "albert": Architecture(hf("Albert", "ForMaskedLM", **SIZES, embedding_size=32), text, "gpt2"),
    "electra": Architecture(hf("Electra", "ForMaskedLM", **SIZES), text, "gpt2"),
    "distilbert": Architecture(
        hf(
            "DistilBert",
            "ForMaskedLM",
            vocab_size=VOCABULARY,
            dim=64,
            n_layers=4,
            n_heads=4,
            hidden_dim=128,
        ),
        text,
        "gpt2",
    ),
    "deberta_v2": Architecture(
        hf("DebertaV2", "ForMaskedLM", **SIZES, relative_attention=True), text, "gpt2"
    ),
    "modernbert": Architecture(
        hf("ModernBert", "ForMaskedLM", **SIZES, cls_token_id=1, sep_token_id=2), text, "gpt2"
    ),
    "mamba": Architecture(
        hf("Mamba", "ForCausalLM", vocab_size=VOCABULARY, hidden_size=64, num_hidden_layers=4),
        text,
        "gpt2",
    ),
    "mamba2": Architecture(
        hf(
            "Mamba2",
            "ForCausalLM",
            vocab_size=VOCABULARY,
            hidden_size=64,
            num_hidden_layers=4,
            num_heads=8,
            head_dim=16,
            n_groups=1,
            state_size=16,
        ),
        text,
        "gpt2",
    ),
    "rwkv": Architecture(
        hf("Rwkv", "ForCausalLM", vocab_size=VOCABULARY, hidden_size=64, num_hidden_layers=4),
        text,
        "gpt2",
    ),
    # transformers, images and sound
    "vit": Architecture(hf("ViT", "ForImageClassification", **VISION), hf_images(16), "vit"),
    "deit": Architecture(hf("DeiT", "ForImageClassification", **VISION), hf_images(16), "vit"),
    "beit": Architecture(hf("Beit", "ForImageClassification", **VISION), hf_images(16), "vit"),
    "dinov2": Architecture(hf("Dinov2", "ForImageClassification", **VISION), hf_images(16), "vit"),
    "swin": Architecture(hf("Swin", "ForImageClassification", **STAGES), hf_images(32), "vit"),
    "swinv2": Architecture(hf("Swinv2", "ForImageClassification", **STAGES), hf_images(32), "vit"),
    "convnext": Architecture(
        hf(
            "ConvNext",
            "ForImageClassification",
            hidden_sizes=[16, 32, 48, 64],
            depths=[1, 1, 2, 1],
            num_labels=CLASSES,
        ),
        hf_images(32),
        "torch",
    ),
    "hf_resnet": Architecture(
        hf(
            "ResNet",
            "ForImageClassification",
            embedding_size=16,
            hidden_sizes=[32, 64],
            depths=[2, 2],
            num_labels=CLASSES,
        ),
        hf_images(32),
        "resnet",
    ),
    "clip": Architecture(
        hf("CLIP", "Model", text_config=SIZES, vision_config=VISION, projection_dim=32),
        pairs,
        "gpt2",
    ),
    "siglip": Architecture(
        hf("Siglip", "Model", text_config=SIZES, vision_config=VISION), pairs, "gpt2"
    ),
    "whisper": Architecture(
        hf(
            "Whisper",
            "ForConditionalGeneration",
            **TWO_STACKS,
            max_source_positions=20,
            max_target_positions=32,
            num_mel_bins=8,
        ),
        speech,
        "gpt2",
    ),
    "wav2vec2": Architecture(
        hf(
            "Wav2Vec2",
            "ForSequenceClassification",
            **{**SIZES, "num_labels": CLASSES},
            conv_dim=[32, 32],
            conv_stride=[5, 4],
            conv_kernel=[10, 8],
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=4,
        ),
        sound,
        "gpt2",
    ),
    # torch's own layers
    "transformer_pre_norm": Architecture(lambda: Encoder(True), classified(LENGTH, 64), "gpt2"),
    "transformer_post_norm": Architecture(lambda: Encoder(False), classified(LENGTH, 64), "gpt2"),
    "lstm": Architecture(Tagger, classified(LENGTH, 16), "lstm"),
    "unet": Architecture(UNet, classified(3, 32, 32), "kaiming"),
    "gan": Architecture(GAN, classified(16, 1, 1), "normal"),
    **{
        f"tv_{name}": Architecture(torchvision(name), classified(3, size, size), recipe)
        for name, size, recipe in (
            ("resnet18", 64, "resnet"),
            ("mobilenet_v3_small", 64, "kaiming"),
            ("efficientnet_b0", 64, "kaiming"),
            ("convnext_tiny", 64, "torch"),
            ("swin_v2_t", 64, "vit"),
            ("squeezenet1_1", 64, "kaiming"),
            ("shufflenet_v2_x0_5", 64, "kaiming"),
            ("mnasnet0_5", 64, "kaiming"),
            ("densenet121", 64, "kaiming"),
        )
    },
    **{
        f"timm_{name}": Architecture(timm(name, **options), classified(3, size, size), recipe)
        for name, size, recipe, options in (
            ("test_resnet", 96, "resnet", {}),
            ("test_convnext", 96, "torch", {}),
            ("test_efficientnet", 96, "kaiming", {}),
            ("test_nfnet", 96, "torch", {}),
            ("test_vit", 64, "vit", {"img_size": 64}),
            ("test_mambaout", 96, "torch", {}),
            ("regnetx_002", 64, "kaiming", {}),
            ("levit_128s", 64, "vit", {"img_size": 64}),
            ("cait_xxs24_224", 64, "vit", {"img_size": 64, **SMALL}),
            ("mixer_s32_224", 96, "vit", {"img_size": 96}),
            ("resmlp_12_224", 64, "vit", {"img_size": 64}),
            ("xcit_nano_12_p16_224", 64, "vit", {"img_size": 64, **SMALL}),
            ("poolformerv2_s12", 64, "torch", {}),
            ("edgenext_xx_small", 64, "torch", {}),
            ("maxvit_pico_rw_256", 64, "vit", {"img_size": 64}),
            (
                "swin_tiny_patch4_window7_224",
                56,
                "vit",
                {"img_size": 56, "embed_dim": 24, "depths": (1, 1, 2, 1)},
            ),
        )
    },
}


# ---- Measurements ------------------------------------------------------------------------------------


@contextmanager
def attention_logits() -> Iterator[list[float]]:
    """The standard deviations of what goes into each softmax of attention.

    The functions are replaced where models look them up. A ``TorchFunctionMode`` does not see what runs
    inside ``multi_head_attention_forward``.
    """
    stds: list[float] = []

    def take(logits: Tensor) -> None:
        seen = logits.detach().double()
        seen = seen[
            seen.isfinite() & (seen > -50)
        ]  # not what a mask covers, which may subtract 100
        if seen.numel() > 1:
            stds.append(seen.std().item())

    def softmax(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if x.ndim >= 3:
            take(x)
        return torch_softmax(x, *args, **kwargs)

    def attention(q: Tensor, k: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        scale = kwargs.get("scale") or q.shape[-1] ** -0.5
        groups = q.shape[-3] // k.shape[-3]
        take(q @ k.repeat_interleave(groups, -3).transpose(-1, -2) * scale)
        return torch_attention(q, k, *args, **kwargs)

    torch_softmax, torch_attention = torch.softmax, functional.scaled_dot_product_attention
    replacements = (
        (torch, "softmax", softmax),
        (Tensor, "softmax", softmax),
        (functional, "scaled_dot_product_attention", attention),
    )
    with ExitStack() as stack:
        for holder, name, function in replacements:
            stack.enter_context(mock.patch.object(holder, name, function))
        yield stds


@contextmanager
def block_variances(model: nn.Module) -> Iterator[list[float]]:
    """The variances of what the blocks return: the members of lists of modules of one class."""
    variances: list[float] = []

    def take(_: nn.Module, __: Any, output: Any) -> None:
        value = output[0] if isinstance(output, tuple) else output
        if isinstance(value, Tensor) and value.is_floating_point():
            variances.append(value.detach().double().var().item())

    blocks = [
        block
        for around in model.modules()
        if isinstance(around, (nn.ModuleList, nn.Sequential))
        for block in around
        if sum(type(each) is type(block) for each in around) > 1 and any(block.children())
    ]
    hooks = [block.register_forward_hook(take) for block in blocks]
    try:
        yield variances
    finally:
        for hook in hooks:
            hook.remove()


def measure(name: str, start: str) -> dict[str, Any]:
    """Build a model, initialize it, and measure."""
    row = ROWS[name]
    torch.manual_seed(0)
    model = row.build()
    found: dict[str, Any] = {}
    if start != "own":
        recipe = row.recipe if start == "fitting" else start
        report = pyinit.initialize_(model, recipe, seed=0)
        found |= {
            "recipe": recipe,
            "kept": [[each.name, each.why] for each in report if each.is_kept],
            "own": sorted({each.why for each in report if each.initializer.name == "own_reset"}),
            "graph": report.graph,
            "meta": from_meta(row, recipe, model),
        }
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd) or hasattr(module, "drop_prob"):
            module.p = module.drop_prob = 0.0
        elif type(module).__name__ == "StochasticDepth":
            module.p = 0.0
    torch.manual_seed(1)
    batch = row.batch()
    model.train()

    def forward() -> Any:
        return model(*batch.inputs, **batch.named)

    def loss() -> Tensor:
        return batch.loss(forward())

    with attention_logits() as logits, block_variances(model) as variances:
        output = forward()
    first = batch.loss(output)
    first.backward()
    slopes = [
        parameter.grad.double().square().mean().sqrt().item()
        for parameter in model.parameters()
        if parameter.grad is not None and parameter.ndim >= 2
    ]
    found |= {
        "loss": first.item(),
        "log_classes": math.log(batch.classes),
        "outputs": _logits(output).double().std().item(),
        "attention": max(logits, default=None),
        "variances": variances,
        "gradients": slopes[0] / slopes[-1] if slopes[-1] else math.inf,
    }
    optimizer = torch.optim.Adam((p for p in model.parameters() if p.requires_grad), RATE)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    with torch.no_grad():
        found["trained"] = loss().item()
    return found


def _logits(output: Any) -> Tensor:
    names = ("logits", "logits_per_image", "prediction_logits")
    found: Tensor = next((getattr(output, name) for name in names if hasattr(output, name)), output)
    return found.detach()


def from_meta(row: Architecture, recipe: str, eager: nn.Module) -> str:
    """Whether a model from the meta device gets the same bits; the parameters that differ, or the error."""
    with torch.device("meta"):
        model = row.build()
    try:
        pyinit.initialize_(model, recipe, seed=0)
    except Exception as error:  # noqa: BLE001  it becomes a cell of the table
        return f"{type(error).__name__}: {error}"
    bits = dict(model.state_dict())
    other = [name for name, value in eager.state_dict().items() if not _equal(value, bits[name])]
    return "the same" if not other else f"other {', '.join(other)}"


def _equal(a: Any, b: Any) -> bool:
    return torch.equal(a, b) if isinstance(a, Tensor) else a == b


# ---- Runs and tables ---------------------------------------------------------------------------------

STARTS = ("own", "auto", "fitting")


@click.group()
def main() -> None:
    """The zoo of docs/recipes.md."""


@main.command()
@click.argument("name")
@click.argument("starts", nargs=-1)
def one(name: str, starts: tuple[str, ...]) -> None:
    """Measure one architecture, and print a line of JSON for each start."""
    for found in measurements(name, starts or STARTS):
        print(json.dumps(found), flush=True)


def measurements(name: str, starts: Iterable[str]) -> Iterator[dict[str, Any]]:
    torch.set_num_threads(1)
    for start in starts:
        try:
            found = measure(name, start)
        except Exception as error:  # noqa: BLE001  it becomes a cell of the table
            found = {"error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}
        yield {"name": name, "start": start, **found}


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--only", default=".*", help="a regular expression for whole names")
@click.option("--again", is_flag=True, help="repeat what failed")
def run(file: Path, only: str, again: bool) -> None:
    """Measure what FILE does not have yet, and append it."""
    _declare_operators()
    for library in ("transformers", "timm", "torchvision"):  # once, before children are forked
        import_module(library)
    forked = multiprocessing.get_context("fork")
    have = {(each["name"], each["start"]) for each in read(file) if not (again and "error" in each)}
    for name in (name for name in ROWS if re.fullmatch(only, name)):
        starts = [start for start in STARTS if (name, start) not in have]
        if not starts:
            continue
        child = forked.Process(target=_append, args=(file, name, starts))
        child.start()
        child.join(SECONDS)
        if child.exitcode is None:
            child.kill()
            child.join()
        print(name, "done" if child.exitcode == 0 else f"ended by {child.exitcode}", flush=True)


def _append(file: Path, name: str, starts: list[str]) -> None:
    with file.open("a") as out:
        for found in measurements(name, starts):
            print(json.dumps(found), file=out, flush=True)
            print(name, found["start"], found.get("error", found.get("meta", "")), flush=True)


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


MEASURES = (
    "loss",
    "logits",
    "attention logits",
    "variance of blocks",
    "gradients",
    "loss after 30 steps",
    "from meta",
)


@main.command()
@click.argument("file", type=click.Path(exists=True, path_type=Path))
def table(file: Path) -> None:
    """Print FILE as two tables of Markdown: own initializations beside auto, and the recipes that fit."""
    runs = _runs(file)
    for first, *others in (("log of the classes", "own", "auto"), ("recipe", "fitting")):
        print(f"| architecture | {first} | {' | '.join(MEASURES)} |", "|---" * 9 + "|", sep="\n")
        for name in ROWS:
            rows = [runs[name, start] for start in others if (name, start) in runs]
            if len(rows) == len(others):
                print(f"| {name} | {' | '.join(_cells(rows))} |")
        print()


def _cells(rows: list[dict[str, Any]]) -> list[str]:
    """The cells of a line, each with the values of all rows."""
    last = rows[-1]
    first = f"{last['log_classes']:.2f}" if len(rows) > 1 else f"`{last['recipe']}`"
    cells = zip(*map(_values, rows), strict=True)
    return [first, *(" / ".join(cell) if any(cell) else "" for cell in cells), _meta(last["meta"])]


def _values(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        f"{row['loss']:.2f}",
        f"{row['outputs']:.2g}",
        "" if row["attention"] is None else f"{row['attention']:.2g}",
        _spread(row),
        f"{row['gradients']:.2g}",
        f"{row['trained']:.2g}",
    )


def _meta(found: str) -> str:
    kinds = (("the same", "the same"), ("other ", "differs"))
    return next((word for start, word in kinds if found.startswith(start)), "refused")


@main.command()
@click.argument("file", type=click.Path(exists=True, path_type=Path))
@click.argument("start", default="auto")
def outliers(file: Path, start: str) -> None:
    """Print where a start is far from a model's own initialization, or from what is sound."""
    runs = _runs(file)
    for name in ROWS:
        own, other = runs.get((name, "own")), runs.get((name, start))
        for words in [] if own is None or other is None else _faults(own, other):
            print(f"{name}: {words}")


def _faults(own: dict[str, Any], row: dict[str, Any]) -> Iterator[str]:
    for each, place in ((own, "own"), (row, "in memory")):
        if "error" in each:
            yield f"{place}: {each['error']}"
            return
    if row["meta"] != "the same":
        yield f"from meta: {row['meta'][:300]}"
    log_classes = row["log_classes"]
    if row["loss"] > log_classes + 1.5:
        yield f"loss {row['loss']:.2f}, log of the classes {log_classes:.2f}, own {own['loss']:.2f}"
    if not 0.2 <= row["outputs"] <= 5:
        yield f"logits of std {row['outputs']:.2g}, own {own['outputs']:.2g}"
    if (row["attention"] or 0) > 3:
        yield f"attention logits {row['attention']:.2g}, own {own['attention']:.2g}"
    if _growth(row) > 100 > _growth(own):
        yield f"variances {_spread(row)}, own {_spread(own)}"
    if _decades(row["gradients"]) > 3 > _decades(own["gradients"]):
        yield f"gradients {row['gradients']:.2g}, own {own['gradients']:.2g}"
    if row["trained"] > own["trained"] + 0.1 * log_classes:
        yield f"loss after {STEPS} steps {row['trained']:.3g}, own {own['trained']:.3g}"


def _growth(row: dict[str, Any]) -> float:
    found = row["variances"]
    return max(found) / max(min(found), 1e-30) if found else 1.0


def _decades(ratio: float) -> float:
    return abs(math.log10(ratio)) if ratio else math.inf


def _spread(row: dict[str, Any]) -> str:
    found = row["variances"]
    return f"{min(found):.2g} to {max(found):.2g}" if found else ""


def _runs(file: Path) -> dict[tuple[str, str], dict[str, Any]]:
    return {(each["name"], each["start"]): each for each in read(file)}


if __name__ == "__main__":
    main()
