"""Findings as a sequence, in words, as JSON, and what is ignored of them."""

import json
import pickle

import pytest
from rich.console import Console
from torch import nn

import pyinit
from pyinit.inspection.findings import KINDS


def build() -> nn.Module:
    model = nn.Sequential(*(nn.Linear(16, 16) for _ in range(4)), nn.LayerNorm(16))
    for layer in model[:4]:
        nn.init.constant_(layer.weight, 0.25)
    nn.init.zeros_(model[4].weight)
    return model


def test_findings_are_a_sequence_in_the_order_of_codes() -> None:
    findings = pyinit.check(build)
    assert [f.code for f in findings] == ["PI103"] * 4 + ["PI109"]
    assert findings[0] is next(iter(findings))
    assert findings[-1].parameter == "4.weight"
    assert findings[1:3] == tuple(findings)[1:3]
    assert len(findings) == 5
    assert findings[0] in findings


def test_a_finding_says_everything() -> None:
    finding = pyinit.check(build)[0]
    assert finding == (
        "PI103",
        "0.weight",
        "all 256 elements are 0.25",
        "different values",
        "units that start alike learn alike",
        "certain",
        False,
    )
    assert str(finding) == (
        "PI103 0.weight: all 256 elements are 0.25; expected different values, "
        "because units that start alike learn alike (certain)"
    )


def test_what_is_ignored_is_kept_with_its_reason() -> None:
    findings = pyinit.check(build, ignore={"PI109": "a gate", "[01].*": "shared on purpose"})
    assert [f.parameter for f in findings] == ["2.weight", "3.weight"]
    assert [(f.parameter, reason) for f, reason in findings.ignored] == [
        ("0.weight", "shared on purpose"),
        ("1.weight", "shared on purpose"),
        ("4.weight", "a gate"),
    ]
    assert findings.summary == "build: 10 parameters and buffers, 2 findings, 3 ignored"


def test_repeated_blocks_are_one_line_of_the_table() -> None:
    text = str(pyinit.check(build))
    assert "{0-3}.weight" in text
    assert text.count("PI103") == 1
    assert text.endswith("build: 10 parameters and buffers, 5 findings")
    console = Console(width=200, force_terminal=False)
    with console.capture() as capture:
        console.print(pyinit.check(build))
    assert "{0-3}.weight" in capture.get()


def test_where_the_table_is_too_wide_each_finding_is_a_paragraph() -> None:
    console = Console(width=60, force_terminal=False)
    with console.capture() as capture:
        console.print(pyinit.check(build))
    lines = capture.get().splitlines()
    assert max(map(len, lines)) <= 60
    heads = [line for line in lines if line.startswith("PI")]
    assert "PI103 {0-3}.weight (certain)" in heads
    assert all(line.startswith(("PI", "  ", "build: ")) or not line for line in lines)


def test_findings_go_to_json_and_pickle() -> None:
    findings = pyinit.check(build, ignore={"PI109": "a gate"})
    found = json.loads(json.dumps(findings.to_dict(), allow_nan=False))
    assert found["failures"] == 4
    assert found["findings"][0]["parameter"] == "0.weight"
    assert found["ignored"][0]["reason"] == "a gate"
    assert pickle.loads(pickle.dumps(findings)) == findings


def test_assert_initialized_passes_or_raises_with_the_same_words() -> None:
    with pytest.raises(AssertionError) as error:
        pyinit.assert_initialized(build)
    findings = pyinit.check(build)
    assert str(error.value) == "\n".join([findings.summary, *map(str, findings)])
    ignore = dict.fromkeys(KINDS, "a test")
    assert pyinit.assert_initialized(build, ignore=ignore) is None  # type: ignore[func-returns-value]


def test_information_alone_does_not_fail() -> None:
    def init(model: nn.Linear) -> None:
        nn.init.trunc_normal_(model.weight, std=0.1)
        nn.init.zeros_(model.bias)

    pyinit.assert_initialized(nn.Linear(16, 16), init)
    (finding,) = pyinit.check(nn.Linear(16, 16), init)
    assert finding.code == "PI107"
    assert str(finding).endswith("(certain, for information)")


def test_a_line_has_the_numbers_of_its_own_parameter() -> None:
    findings = pyinit.check(lambda: nn.Linear(8, 4, device="meta").to_empty(device="cpu"))
    weight, bias = str(findings).splitlines()[1:3]
    assert weight.startswith("PI001  weight     none of 32 elements")
    assert bias.startswith("PI001  bias       none of 4 elements")
