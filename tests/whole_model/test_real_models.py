"""Real architectures: every parameter is reported, and none is left as it was without a reason."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from poison import poisoned_model
from torch import Tensor, nn

from pyinit import InitReport, Rule, initialize_, recipes, replay_

IDS = torch.arange(24).view(2, 12) % 50


class Depthwise(nn.Module):
    """A separable convolution, as in MobileNet."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, stride, padding=1, groups=inputs, bias=False)
        self.norm1 = nn.BatchNorm2d(inputs)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.act = nn.ReLU6()

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm1(self.depthwise(x)))
        return self.act(self.norm2(self.pointwise(x)))


class UNet(nn.Module):
    """Two levels, up again by transposed convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.down1 = self._block(3, 8)
        self.down2 = self._block(8, 16)
        self.middle = self._block(16, 32)
        self.up2 = nn.ConvTranspose2d(32, 16, 2, stride=2)
        self.join2 = self._block(32, 16)
        self.up1 = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.join1 = self._block(16, 8)
        self.head = nn.Conv2d(8, 2, 1)

    @staticmethod
    def _block(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1), nn.GroupNorm(4, outputs), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        half = nn.functional.max_pool2d
        one = self.down1(x)
        two = self.down2(half(one, 2))
        deep = self.up2(self.middle(half(two, 2)))
        two = self.join2(torch.cat([two, deep], 1))
        return self.head(self.join1(torch.cat([one, self.up1(two)], 1)))


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 16, padding_idx=0)
        self.lstm = nn.LSTM(16, 24, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(48, 7)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.lstm(self.embed(ids))[0])


class Translator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 32)
        self.transformer = nn.Transformer(32, 4, 2, 2, 64, dropout=0.0, batch_first=True)
        self.head = nn.Linear(32, 50)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        return self.head(self.transformer(x, x))


def mobilenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU6(),
        Depthwise(16, 24),
        Depthwise(24, 32, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    )


def transformers_model(kind: str, head: str, **config: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        transformers = pytest.importorskip("transformers")
        options = getattr(transformers, kind + "Config")(**config)
        model: nn.Module = getattr(transformers, kind + head)(options)
        return model.eval()

    return build


TEXT = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module], Any]]] = {
    "gpt2": (
        transformers_model(
            "GPT2", "LMHeadModel", vocab_size=50, n_positions=16, n_embd=32, n_layer=3, n_head=4
        ),
        lambda model: model(IDS).logits,
    ),
    "llama": (
        transformers_model(
            "Llama", "ForCausalLM", **TEXT, intermediate_size=64, num_key_value_heads=2
        ),
        lambda model: model(IDS).logits,
    ),
    "gemma": (
        transformers_model(
            "Gemma2", "ForCausalLM", **TEXT, intermediate_size=64, num_key_value_heads=2, head_dim=8
        ),
        lambda model: model(IDS).logits,
    ),
    "bert": (
        transformers_model("Bert", "ForMaskedLM", **TEXT, intermediate_size=64),
        lambda model: model(IDS).logits,
    ),
    "vit": (
        transformers_model(
            "ViT",
            "ForImageClassification",
            hidden_size=32,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=64,
            image_size=16,
            patch_size=4,
            num_labels=10,
        ),
        lambda model: model(torch.ones(2, 3, 16, 16)).logits,
    ),
    "resnet": (
        transformers_model(
            "ResNet",
            "ForImageClassification",
            embedding_size=8,
            hidden_sizes=[16, 24],
            depths=[2, 2],
            layer_type="bottleneck",
            num_labels=10,
        ),
        lambda model: model(torch.ones(2, 3, 32, 32)).logits,
    ),
    "mobilenet": (mobilenet, lambda model: model(torch.ones(2, 3, 16, 16))),
    "unet": (UNet, lambda model: model(torch.ones(2, 3, 16, 16))),
    "lstm": (Tagger, lambda model: model(IDS)),
    "transformer": (Translator, lambda model: model(IDS)),
}

# Recipes that refuse models without what they are for.
PARTICULAR = {"fixup", "mimetic", "mup", "rezero", "skipinit"}
TOKENS = [Rule("*.cls_token", "normal", True), Rule("*.position_embeddings", "normal", True)]


def names_of(report: InitReport) -> list[str]:
    return [n for row in report for n in (row.name, *row.tied, *row.originals)]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("recipe", sorted(recipes().keys() - PARTICULAR))
def test_every_parameter_is_in_the_report_and_gets_values(name: str, recipe: str) -> None:
    build, _ = MODELS[name]
    model = poisoned_model(build())
    report = initialize_(model, recipe, seed=1)
    assert sorted(names_of(report)) == sorted(
        n for n, _ in model.named_parameters(remove_duplicate=False)
    )
    assert [row.name for row in report if row.is_kept] == []
    assert [n for n, p in model.named_parameters() if p.isnan().any()] == []
    assert all(row.why for row in report)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("recipe", ["torch", "auto"])
def test_a_model_built_on_the_meta_device_computes_what_one_built_in_memory_does(
    name: str, recipe: str
) -> None:
    build, run = MODELS[name]
    model = poisoned_model(build()).eval()
    report = initialize_(model, recipe, rules=TOKENS, seed=1)
    with torch.device("meta"):
        empty, replayed = build().eval(), build().eval()
    again = initialize_(empty, recipe, rules=TOKENS, seed=1)
    assert again.to_dict()["rows"] == report.to_dict()["rows"]
    replay_(replayed, InitReport.from_dict(report.to_dict()))
    with torch.no_grad():
        expected = run(model)
        assert expected.isfinite().all()
        assert torch.equal(run(empty), expected)
        assert torch.equal(run(replayed), expected)


@pytest.mark.parametrize("name", MODELS)
def test_auto_starts_with_outputs_of_a_sane_size(name: str) -> None:
    build, run = MODELS[name]
    model = build().eval()
    initialize_(model, seed=1)
    with torch.no_grad():
        output = run(model)
    assert output.isfinite().all()
    assert 1e-3 < output.std() < 10
