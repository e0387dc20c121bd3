"""Faults of the kind that users report: check names each, and nothing in the same model without it."""

import math
from collections.abc import Callable

import torch
from torch import nn

import pyinit
from pyinit.models.llama import Llama


def named(findings: pyinit.Findings, code: str) -> list[str]:
    return [finding.parameter for finding in findings if finding.code == code]


def llama() -> Llama:
    return Llama(vocab=128, width=64, hidden=128, layers=4, heads=4, kv_heads=2, head_dim=16)


def test_a_norm_scale_left_uninitialized_after_to_empty() -> None:
    def build(norms: bool) -> nn.Module:
        with torch.device("meta"):
            model = llama()
        model.to_empty(device="cpu")
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.02)
            elif norms or not name.endswith("input_layernorm.weight"):
                nn.init.ones_(parameter)
        return model

    findings = pyinit.check(lambda: build(norms=False))
    forgotten = [f"model.layers.{i}.input_layernorm.weight" for i in range(4)]
    assert [finding.parameter for finding in findings.failures] == forgotten
    assert {finding.code for finding in findings.failures} == {"PI001"}
    assert not pyinit.check(lambda: build(norms=True)).failures


def scaled(last: str) -> Callable[[nn.Module], None]:
    """GPT-2's scaling by depth of the layers of that name."""

    def init(model: nn.Module) -> None:
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                nn.init.ones_(parameter)
            else:
                is_scaled = name.endswith((f"{last}.weight", "o_proj.weight"))
                nn.init.normal_(parameter, std=0.02 / (math.sqrt(8) if is_scaled else 1))

    return init


def test_depth_scaling_on_the_gate_instead_of_the_output_projection() -> None:
    findings = pyinit.check(llama, scaled("gate_proj"))
    gates = [f"model.layers.{i}.mlp.gate_proj.weight" for i in range(4)]
    assert [finding.parameter for finding in findings.failures] == gates
    assert findings.codes == {"PI110"}
    assert "down_proj" in findings[0].expected
    assert not pyinit.check(llama, scaled("down_proj")).codes


def test_a_truncated_normal_with_absolute_bounds() -> None:
    def build(bound: float) -> nn.Module:
        model = llama()
        for parameter in model.parameters():
            if parameter.ndim > 1:
                nn.init.trunc_normal_(parameter, std=0.02, a=-bound, b=bound)
        return model

    weights = [name for name, parameter in llama().named_parameters() if parameter.ndim > 1]
    findings = pyinit.check(lambda: build(2.0))
    assert set(named(findings, "PI107")) == set(weights)
    assert "cuts nothing" in findings[0].found
    assert not pyinit.check(lambda: build(0.04)).codes


def test_a_head_re_created_after_init() -> None:
    def build(replace: bool) -> nn.Module:
        model = nn.Sequential(
            nn.Linear(64, 128), nn.LayerNorm(128), nn.GELU(), nn.Linear(128, 128), nn.LayerNorm(128)
        )
        model.append(nn.Linear(128, 1000))
        for module in model:
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.05, a=-0.1, b=0.1)
                nn.init.zeros_(module.bias)
        if replace:
            model[5] = nn.Linear(128, 10)
        return model

    findings = pyinit.check(lambda: build(replace=True))
    assert [(finding.code, finding.parameter) for finding in findings.failures] == [
        ("PI112", "5.weight")
    ]
    assert not pyinit.check(lambda: build(replace=False)).codes


def test_two_shards_with_the_same_values() -> None:
    def build(seeds: list[int]) -> nn.Module:
        shards = nn.ModuleList()
        for seed in seeds:
            generator = torch.Generator().manual_seed(seed)
            shard = nn.Linear(64, 32, bias=False)
            nn.init.normal_(shard.weight, std=0.02, generator=generator)
            shards.append(shard)
        return shards

    findings = pyinit.check(lambda: build([7, 7]))
    assert named(findings, "PI102") == ["1.weight"]
    assert findings.failures[0].found == "the same 2048 values as 0.weight"
    assert not named(pyinit.check(lambda: build([7, 8])), "PI102")


def test_a_weight_gathered_from_shards_with_the_same_values() -> None:
    for dim in (0, 1):
        shard = torch.randn(32, 32) / 8
        whole = torch.cat((shard, shard), dim)
        findings = pyinit.check({"weight": whole})
        assert [finding.code for finding in findings.failures] == ["PI102"]
        assert f"2 equal parts along dim {dim}" in findings[0].found
    assert not pyinit.check({"weight": torch.randn(64, 64) / 8}).codes
