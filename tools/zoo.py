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
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import click
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

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
        model: nn.Module = getattr(transformers, kind + head)(options)
        return model

    return build


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
            ("vgg11", 64, "kaiming"),
            ("densenet121", 64, "kaiming"),
        )
    },
    **{
        f"timm_{name}": Architecture(timm(name), classified(3, size, size), recipe)
        for name, size, recipe in (
            ("test_resnet", 96, "resnet"),
            ("test_convnext", 96, "torch"),
            ("test_efficientnet", 96, "kaiming"),
            ("test_nfnet", 96, "torch"),
            ("test_vit", 160, "vit"),
            ("test_mambaout", 96, "torch"),
            ("regnetx_002", 64, "kaiming"),
            ("levit_128s", 224, "vit"),
            ("cait_xxs24_224", 224, "vit"),
            ("mixer_s32_224", 224, "vit"),
            ("resmlp_12_224", 224, "vit"),
            ("xcit_nano_12_p16_224", 224, "vit"),
            ("poolformerv2_s12", 64, "torch"),
            ("edgenext_xx_small", 64, "torch"),
            ("maxvit_pico_rw_256", 256, "vit"),
            ("swin_tiny_patch4_window7_224", 224, "vit"),
        )
    },
}


# ---- Measurements ------------------------------------------------------------------------------------


class AttentionLogits(TorchFunctionMode):
    """Takes the standard deviation of what goes into each softmax of attention."""

    def __init__(self) -> None:
        self.stds: list[float] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "scaled_dot_product_attention":
            q, k = args[:2] if len(args) > 1 else (kwargs["query"], kwargs["key"])
            scale = kwargs.get("scale") or q.shape[-1] ** -0.5
            groups = q.shape[-3] // k.shape[-3]
            self._take(q @ k.repeat_interleave(groups, -3).transpose(-1, -2) * scale)
        elif name == "softmax" and args and args[0].ndim >= 3:
            self._take(args[0])
        return func(*args, **kwargs)

    def _take(self, logits: Tensor) -> None:
        seen = logits.detach().double()
        seen = seen[seen.isfinite() & (seen > -1e4)]  # not what a mask covers
        if seen.numel() > 1:
            self.stds.append(seen.std().item())


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


def measure(name: str, start: str, place: str) -> dict[str, Any]:
    """Build a model, initialize it, and measure."""
    row = ROWS[name]
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if place == "meta":
        with torch.device("meta"):
            model = row.build()
    else:
        model = row.build()
    found: dict[str, Any] = {}
    if start != "own":
        recipe = row.recipe if start == "fitting" else start
        began = time.perf_counter()
        report = pyinit.initialize_(model, recipe, seed=0)
        found |= {
            "seconds": time.perf_counter() - began,
            "recipe": recipe,
            "kept": [[each.name, each.why] for each in report if each.is_kept],
            "own": sorted({each.why for each in report if each.initializer.name == "own_reset"}),
            "graph": report.graph,
        }
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
    torch.manual_seed(1)
    batch = row.batch()
    model.train()

    def loss() -> Tensor:
        return batch.loss(model(*batch.inputs, **batch.named))

    with AttentionLogits() as logits, block_variances(model) as variances:
        first = loss()
    first.backward()
    slopes = [
        parameter.grad.double().square().mean().sqrt().item()
        for parameter in model.parameters()
        if parameter.grad is not None and parameter.ndim >= 2
    ]
    found |= {
        "loss": first.item(),
        "log_classes": math.log(batch.classes),
        "logits": max(logits.stds, default=None),
        "least": min(variances, default=None),
        "most": max(variances, default=None),
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


# ---- Runs and tables ---------------------------------------------------------------------------------

RUNS = (
    ("own", "eager"),
    ("auto", "eager"),
    ("fitting", "eager"),
    ("auto", "meta"),
    ("fitting", "meta"),
)


@click.group()
def main() -> None:
    """The zoo of docs/recipes.md."""


@main.command()
@click.argument("name")
@click.argument("start")
@click.argument("place")
def one(name: str, start: str, place: str) -> None:
    """Measure one run, and print it as JSON."""
    print(json.dumps(measure(name, start, place)))


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--only", default=".*", help="a regular expression for whole names")
@click.option("--again", is_flag=True, help="repeat runs that failed")
def run(file: Path, only: str, again: bool) -> None:
    """Measure what FILE does not have yet, and append it."""
    have = {
        (each["name"], each["start"], each["place"])
        for each in read(file)
        if not (again and "error" in each)
    }
    for name in (name for name in ROWS if re.fullmatch(only, name)):
        for start, place in RUNS:
            if (name, start, place) in have:
                continue
            command = (sys.executable, __file__, "one", name, start, place)
            try:
                done = subprocess.run(
                    command, check=False, capture_output=True, text=True, timeout=SECONDS
                )
                lines = done.stdout.splitlines() if done.returncode == 0 else []
                found = json.loads(lines[-1]) if lines else {"error": _last_line(done.stderr)}
            except subprocess.TimeoutExpired:
                found = {"error": f"more than {SECONDS} s"}
            line = {"name": name, "start": start, "place": place, **found}
            with file.open("a") as out:
                out.write(json.dumps(line) + "\n")
            print(name, start, place, found.get("error", "done"), flush=True)


def _last_line(errors: str) -> str:
    return (errors.strip().splitlines() or ["it printed nothing"])[-1]


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@main.command()
@click.argument("file", type=click.Path(exists=True, path_type=Path))
def table(file: Path) -> None:
    """Print FILE as a table of Markdown."""
    runs = {(each["name"], each["start"], each["place"]): each for each in read(file)}
    print(
        "| architecture | start | loss (log of the classes) | attention logits | variance of blocks "
        "| gradients, first to last | loss after 30 steps | from meta |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for (name, start, place), found in runs.items():
        if place != "meta":
            print(_line(name, start, found, runs.get((name, start, "meta"))))


def _line(name: str, start: str, row: dict[str, Any], meta: dict[str, Any] | None) -> str:
    called = f"`{row['recipe']}`" if "recipe" in row else start
    if "error" in row:
        return f"| {name} | {called} | {row['error'].replace('|', ' ')} | | | | | |"
    spread = "" if row["least"] is None else f"{row['least']:.2g} to {row['most']:.2g}"
    same = ""
    if meta is not None:
        same = "the same" if meta.get("trained") == row["trained"] else "refused"
        same = same if "error" in meta or same == "the same" else f"{meta['trained']:.3g}"
    cells = (
        name,
        called,
        f"{row['loss']:.2f} ({row['log_classes']:.2f})",
        "" if row["logits"] is None else f"{row['logits']:.2g}",
        spread,
        f"{row['gradients']:.2g}",
        f"{row['trained']:.3g}",
        same,
    )
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
