"""Values that are not sane: what is found, and what only looks like it and is not."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import pyinit
from pyinit.models.llama import Llama


def codes(model: Any, *, failures: bool = True) -> dict[str, set[str]]:
    """The codes of what is found, by parameter."""
    findings = pyinit.check(model)
    found: dict[str, set[str]] = {}
    for finding in findings.failures if failures else findings:
        found.setdefault(finding.parameter, set()).add(finding.code)
    return found


class Residual(nn.Module):
    """A stream that branches of two layers are added to, and a head."""

    def __init__(self, branches: int = 4) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32))
            for _ in range(branches)
        )
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


def chain() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)
    )


@torch.no_grad()
def changed(model: nn.Module, name: str, value: Callable[[Tensor], Tensor]) -> nn.Module:
    parameter = model.get_parameter(name)
    parameter.copy_(value(parameter))
    return model


def test_zeros_are_found_on_the_way_and_not_where_they_are_meant() -> None:
    assert codes(changed(chain(), "2.weight", torch.zeros_like)) == {"2.weight": {"PI104"}}
    assert not codes(changed(chain(), "4.weight", torch.zeros_like))  # a head
    for last in ("blocks.0.3.weight", "head.weight"):
        assert not codes(changed(Residual(), last, torch.zeros_like))
    assert not codes(changed(Residual(), "blocks.0.1.weight", torch.zeros_like))  # passed by


def test_a_norm_scale_of_zero_is_meant_at_the_end_of_a_branch_alone() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(8, 8, 3, padding=1)
            self.bn1 = nn.BatchNorm2d(8)
            self.conv2 = nn.Conv2d(8, 8, 3, padding=1)
            self.bn2 = nn.BatchNorm2d(8)

        def forward(self, x: Tensor) -> Tensor:
            y = functional.relu(self.bn1(self.conv1(x)))
            return functional.relu(x + self.bn2(self.conv2(y)))

    assert not codes(changed(Block(), "bn2.weight", torch.zeros_like))
    assert codes(changed(Block(), "bn1.weight", torch.zeros_like)) == {"bn1.weight": {"PI109"}}


def test_norms_scales_are_found_by_how_far_they_are() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8))
    assert codes(changed(model, "1.weight", lambda w: torch.full_like(w, 0.1)))
    around = changed(model, "1.weight", lambda w: 1 + 0.02 * torch.randn_like(w))  # DCGAN's
    assert not codes(around)
    assert codes(around, failures=False) == {"1.weight": {"PI109"}}


def test_a_norm_that_adds_one_starts_at_zero() -> None:
    class GemmaRMSNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(8))

    assert not codes(GemmaRMSNorm(), failures=False)
    assert codes(changed(GemmaRMSNorm(), "weight", torch.ones_like)) == {"weight": {"PI109"}}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_means_beyond_chance_are_found_with_their_z(dtype: torch.dtype) -> None:
    values = torch.randn(100, 100) * 0.1 + 0.01
    findings = pyinit.check(changed(nn.Linear(100, 100), "weight", lambda _: values).to(dtype))
    (mean,) = findings.failures
    assert mean.code == "PI105"
    stored = values.to(dtype).double()
    z = float(stored.mean() / stored.std(correction=0) * math.sqrt(stored.numel()))
    assert f"z = {z:.1f}" in mean.found


def test_means_within_chance_are_not_found() -> None:
    for seed in range(50):
        torch.manual_seed(seed)
        assert not codes(nn.Linear(10 + seed, 20), failures=False)


def test_what_bfloat16_rounds_is_no_mean() -> None:
    layer = nn.Linear(2048, 1024, dtype=torch.bfloat16)
    values = layer.weight.detach().double()
    assert abs(float(values.mean() / values.std())) > 0.005
    assert not codes(layer, failures=False)


@pytest.mark.parametrize(
    ("factor", "is_failure"),
    [(0.001, True), (0.1, None), (0.3, False), (3, False), (5, None), (20, True)],
)
def test_a_standard_deviation_is_judged_by_what_follows(
    factor: float, is_failure: bool | None
) -> None:
    model = chain()
    for layer in model[::2]:
        nn.init.kaiming_normal_(layer.weight)
    changed(model, "2.weight", lambda w: w * factor)
    of_code = [f for f in pyinit.check(model) if f.code == "PI106"]
    if is_failure is False:
        assert not of_code
    else:
        (finding,) = of_code
        assert finding.is_informational == (is_failure is None)
        assert finding.why == "relu follows"
        assert "kaiming_normal" in finding.expected


def test_identities_are_no_faults() -> None:
    model = chain()
    for name in ("0.weight", "2.weight"):
        changed(model, name, lambda w: torch.eye(len(w)))
    assert not codes(model, failures=False)


def test_a_teacher_that_is_frozen_is_information() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.student = nn.Linear(16, 16, bias=False)
            self.teacher = nn.Linear(16, 16, bias=False)
            self.teacher.load_state_dict(self.student.state_dict())

    assert codes(Pair()) == {"teacher.weight": {"PI102"}}
    frozen = Pair()
    frozen.teacher.requires_grad_(False)
    assert not codes(frozen)
    assert codes(frozen, failures=False) == {"teacher.weight": {"PI102"}}


def test_layers_copied_by_torchs_encoder_are_found() -> None:
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    found = codes(nn.TransformerEncoder(layer, 2))
    assert found == {
        f"layers.1.{name}": {"PI102"}
        for name in (
            "self_attn.in_proj_weight",
            "self_attn.out_proj.weight",
            "linear1.weight",
            "linear2.weight",
        )
    }


def test_values_that_underflow_are_found() -> None:
    for std, is_found in ((1e-6, True), (1e-5, True), (1e-3, False)):
        model = nn.Linear(64, 64, dtype=torch.float16)
        nn.init.normal_(model.weight, std=std)
        assert ("PI108" in codes(model).get("weight", set())) == is_found
    model = nn.Linear(64, 64, dtype=torch.bfloat16)
    nn.init.normal_(model.weight, std=1e-6)
    assert "PI108" not in codes(model).get("weight", set())


def test_clamped_values_pile_up_at_the_bounds() -> None:
    clamped = (torch.randn(100, 100) * 0.1).clamp(-0.1, 0.1)
    found = codes(changed(nn.Linear(100, 100), "weight", lambda _: clamped), failures=False)
    assert found == {"weight": {"PI107"}}


@pytest.mark.parametrize("library", [nn.init, pyinit], ids=["torch", "pyinit"])
def test_truncations_are_judged_by_their_bounds(library: Any) -> None:
    def cut(std: float, a: float, b: float) -> list[str]:
        def init(model: Any) -> None:
            library.trunc_normal_(model.weight, std=std, a=a, b=b)
            nn.init.zeros_(model.bias)

        findings = pyinit.check(nn.Linear(64, 64), init)
        return [finding.found for finding in findings if finding.code == "PI107"]

    assert "cuts nothing" in cut(0.02, -2, 2)[0]
    assert "cuts everything" in cut(1.0, -0.04, 0.04)[0]
    assert not cut(0.02, -0.04, 0.04)
    assert not cut(0.02, -2, 0.04)


def test_a_rule_of_truncated_normals_is_read_from_its_report() -> None:
    rules = {"*.weight": pyinit.initializers.TruncNormal(std=0.1)}
    findings = pyinit.check(chain(), lambda model: pyinit.initialize_(model, rules=rules))
    assert [f.parameter for f in findings if f.code == "PI107"] == [
        "0.weight",
        "2.weight",
        "4.weight",
    ]


def test_a_checkpoint_is_checked_by_its_values(tmp_path: Any) -> None:
    from safetensors.torch import save_file  # noqa: PLC0415

    state = {
        "model.layer.weight": torch.full((8, 8), 0.5),
        "model.other.weight": torch.randn(32, 32),
        "model.third.weight": torch.full((4,), torch.nan),
        "model.final_norm.weight": torch.full((8,), 0.5),
        "model.bn1.running_mean": torch.full((8,), 0.5),
    }
    path = tmp_path / "model.safetensors"
    save_file(state, path)
    torch.save(state, tmp_path / "model.pt")
    for source in (state, path, str(path), tmp_path / "model.pt", tmp_path):
        findings = pyinit.check(source)
        assert {(f.code, f.parameter) for f in findings} == {
            ("PI101", "model.third.weight"),
            ("PI103", "model.layer.weight"),
            ("PI109", "model.final_norm.weight"),
        }
        assert [f.code for f in findings.failures] == ["PI101"]


def test_the_best_initialization_of_a_deep_branch_scales_the_last_layer_alone() -> None:
    model = Residual(branches=8)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.02)
    for block in model.blocks:
        changed(block, "3.weight", lambda w: w / math.sqrt(8))
    assert not codes(model)
    for block in model.blocks:  # on the first instead
        changed(block, "3.weight", lambda w: w * math.sqrt(8))
        changed(block, "1.weight", lambda w: w / math.sqrt(8))
    assert codes(model) == {f"blocks.{i}.1.weight": {"PI110"} for i in range(8)}


class Gated(nn.Module):
    """A gate of one layer and a sigmoid, whose output multiplies that of the other layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.gate, self.head = nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.first(x)) * torch.sigmoid(self.gate(x)))


def test_a_gate_of_zeros_starts_half_open() -> None:
    model = changed(Gated(), "gate.weight", torch.zeros_like)
    assert not codes(model)
    assert codes(model, failures=False) == {"gate.weight": {"PI104"}}
    assert codes(changed(Gated(), "first.weight", torch.zeros_like)) == {"first.weight": {"PI104"}}


def test_two_layers_of_zeros_in_a_branch_never_learn() -> None:
    model = changed(Residual(), "blocks.1.3.weight", torch.zeros_like)
    changed(model, "blocks.1.1.weight", torch.zeros_like)
    assert not codes(model)  # the first one's bias lets the last one learn
    changed(model, "blocks.1.1.bias", torch.zeros_like)
    (finding,) = pyinit.check(model).failures
    assert (finding.code, finding.parameter) == ("PI104", "blocks.1.1.weight")
    assert finding.why.startswith("blocks.1.3.weight is 0, too")
    model(torch.randn(5, 32)).square().sum().backward()
    for layer in (model.blocks[1][1], model.blocks[1][3]):
        assert layer.weight.grad is not None
        assert not layer.weight.grad.any()


def test_zero_queries_before_a_zero_output_learn() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v, self.o = (nn.Linear(32, 32, bias=False) for _ in range(4))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.o(
                functional.scaled_dot_product_attention(self.q(x), self.k(x), self.v(x))
            )

    model = nn.Sequential(Attention(), nn.LayerNorm(32), nn.Linear(32, 4))
    changed(changed(model, "0.o.weight", torch.zeros_like), "0.q.weight", torch.zeros_like)
    assert not codes(model)


@pytest.mark.parametrize(("value", "is_found"), [(1e-6, True), (1e-3, False), (0.0, False)])
def test_a_constant_that_underflows_is_found(value: float, is_found: bool) -> None:
    model = nn.Linear(64, 64, dtype=torch.float16)
    model.scale = nn.Parameter(torch.full((64,), value, dtype=torch.float16))
    assert codes(model) == ({"scale": {"PI108"}} if is_found else {})


def test_units_that_are_all_alike_are_found_whatever_their_mean() -> None:
    row = torch.randn(1, 64) + 1
    found = codes(changed(chain(), "0.weight", lambda w: row.expand_as(w) / 8))
    assert "PI102" in found["0.weight"]


def test_channels_of_their_own_may_be_alike() -> None:
    model = nn.ConvTranspose2d(16, 16, 4, 2, groups=16)
    ramp = torch.tensor([0.25, 0.75, 0.75, 0.25])
    changed(model, "weight", lambda w: torch.outer(ramp, ramp).expand_as(w))  # doubles an image
    assert "PI102" not in codes(model, failures=False)["weight"]


def test_a_head_may_be_as_small_as_it_likes() -> None:
    assert not codes(changed(chain(), "4.weight", lambda w: w * 1e-4), failures=False)


def test_a_small_gate_that_its_bias_holds_open_is_meant() -> None:
    class SpatialGate(nn.Module):  # gMLP's
        def __init__(self, bias: float) -> None:
            super().__init__()
            self.first, self.mix, self.head = nn.Linear(32, 64), nn.Linear(32, 32), nn.Linear(32, 4)
            nn.init.normal_(self.mix.weight, std=1e-6)
            nn.init.constant_(self.mix.bias, bias)

        def forward(self, x: Tensor) -> Tensor:
            one, other = self.first(x).chunk(2, dim=-1)
            return self.head(one * self.mix(other))

    assert "mix.weight" not in codes(SpatialGate(1.0), failures=False)
    assert codes(SpatialGate(0.0))["mix.weight"] == {"PI106"}


def test_a_norm_of_zeros_before_squeeze_and_excitation_ends_the_branch() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(16, 16, 3, padding=1)
            self.bn1 = nn.BatchNorm2d(16)
            self.conv2 = nn.Conv2d(16, 16, 3, padding=1)
            self.bn2 = nn.BatchNorm2d(16)
            self.squeeze, self.excite = nn.Conv2d(16, 4, 1), nn.Conv2d(4, 16, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
            gate = self.excite(functional.relu(self.squeeze(y.mean((2, 3), keepdim=True))))
            return functional.relu(x + y * torch.sigmoid(gate))

    assert not codes(changed(Block(), "bn2.weight", torch.zeros_like))
    assert codes(changed(Block(), "bn1.weight", torch.zeros_like)) == {"bn1.weight": {"PI109"}}


def test_outputs_of_branches_inside_another_branch_are_scaled_rightly() -> None:
    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c, self.d = (nn.Linear(32, 32) for _ in range(4))
            for layer in (self.a, self.b, self.c, self.d):
                nn.init.normal_(layer.weight, std=0.02 / (1 if layer is not self.b else 3))

        def forward(self, x: Tensor) -> Tensor:
            y = x + self.b(functional.gelu(self.a(x)))
            return x + functional.layer_norm(y + self.d(functional.gelu(self.c(y))), (32,))

    model = nn.Sequential(*(Layer() for _ in range(3)))  # nine branches in all
    assert "PI110" not in {code for found in codes(model).values() for code in found}


def test_what_init_itself_draws_as_torch_does_is_meant() -> None:
    def init(model: Any) -> None:
        for layer in (model[0], model[2]):
            nn.init.normal_(layer.weight, std=0.05)
            nn.init.zeros_(layer.bias)
        model[4].reset_parameters()

    findings = pyinit.check(chain(), init)
    assert [(f.code, f.parameter) for f in findings] == [("PI112", "4.weight")]
    assert not findings.failures

    def build() -> nn.Module:
        model = chain()
        init(model)
        return model

    assert codes(build) == {"4.weight": {"PI112"}}


@pytest.mark.parametrize("layers", [2, 3, 4, 6])
def test_the_gain_of_a_gate_is_no_scaling_of_what_stands_beside_it(layers: int) -> None:
    def build() -> nn.Module:
        return Llama(
            vocab=64, width=64, hidden=128, layers=layers, heads=4, kv_heads=2, head_dim=16
        )

    assert not pyinit.check(build, pyinit.initialize_).codes
