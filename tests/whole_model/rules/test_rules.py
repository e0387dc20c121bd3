"""Rules: what each matches, which wins, what files say, and what is wrong with them."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from paths import ROOT
from torch import nn
from torch.nn.utils import parametrizations

import pyinit
from pyinit.initializers import (
    KEEP,
    Constant,
    KaimingNormal,
    Normal,
    Padded,
    Parts,
    TruncNormal,
)
from pyinit.models.gpt2 import GPT2
from pyinit.whole_model.network import Network
from pyinit.whole_model.recipes import registry
from pyinit.whole_model.rules import Rule, Rules, as_rules, load_recipe, matcher


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.Linear(4, 4)
        self.conv = nn.Conv1d(4, 4, 3, bias=False)
        self.norm = nn.LayerNorm(4)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.blocks = nn.ModuleList([Block(), Block()])
        self.head = nn.Linear(4, 5)
        self.head.weight = self.embed.weight


@pytest.fixture(scope="module")
def network() -> Network:
    return Network(Net())


def matched(network: Network, pattern: Any) -> list[str]:
    matches = matcher(pattern)
    return [site.name for site in network.sites if matches(site)]


def chosen(network: Network, rules: Any) -> dict[str, str]:
    choices = as_rules(rules).choose(network)
    return {name: str(choice.initializer) for name, choice in choices.items()}


LINEAR = [
    "blocks.0.attn.weight",
    "blocks.0.attn.bias",
    "blocks.1.attn.weight",
    "blocks.1.attn.bias",
    "head.bias",
]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("blocks.?.attn.weight", ["blocks.0.attn.weight", "blocks.1.attn.weight"]),
        ("*.conv.*", ["blocks.0.conv.weight", "blocks.1.conv.weight"]),
        ("blocks.[!0].conv.weight", ["blocks.1.conv.weight"]),
        ("attn.weight", []),  # a glob is for the whole name
        ("HEAD.*", []),
        ("embed.weight", ["embed.weight"]),
        ("head.weight", ["embed.weight"]),  # a tied weight has both names
        (re.compile(r"\.1\.(conv|norm\.b)"), ["blocks.1.conv.weight", "blocks.1.norm.bias"]),
        (re.compile("HEAD", re.IGNORECASE), ["embed.weight", "head.bias"]),
        (nn.Linear, LINEAR),
        (nn.ModuleList, []),  # it owns none itself
        (nn.modules.conv._ConvNd, ["blocks.0.conv.weight", "blocks.1.conv.weight"]),
        (lambda site: site.shape == (5,), ["head.bias"]),
        (("embed.*", re.compile("^head")), ["embed.weight", "head.bias"]),
        ([], []),
    ],
)
def test_a_pattern_matches_these(network: Network, pattern: Any, names: list[str]) -> None:
    assert matched(network, pattern) == names


@pytest.mark.parametrize("pattern", [3, None, int, b"a", re.compile(b"a"), nn.ReLU(), ["a", 3]])
def test_what_is_no_pattern_is_refused(pattern: Any) -> None:
    with pytest.raises(TypeError, match=r"glob .*regular expression.*nn\.Module.*function"):
        matcher(pattern)


def test_a_parametrized_parameter_matches_by_its_originals_too() -> None:
    network = Network(nn.Sequential(parametrizations.weight_norm(nn.Linear(3, 2))))
    for pattern in ("0.weight", "*.original1", re.compile("parametrizations"), nn.Linear):
        assert "0.weight" in matched(network, pattern)


@pytest.mark.parametrize(
    "name", ["Linear", "torch.nn.Linear", "torch.Linear", "torch.nn.modules.linear.Linear"]
)
def test_a_file_names_a_type_alone_or_after_its_packages(network: Network, name: str) -> None:
    names = chosen(network, [{"type": name, "init": "keep"}])
    assert list(names) == LINEAR


def test_a_file_names_a_type_by_its_bases(network: Network) -> None:
    names = chosen(network, [{"type": "_ConvNd", "init": "keep"}])
    assert list(names) == ["blocks.0.conv.weight", "blocks.1.conv.weight"]


@pytest.mark.parametrize("name", ["os.system", "nn.Linear", "tensorflow.Linear", "orch.nn.Linear"])
def test_a_type_that_the_model_lacks_is_a_name_that_matches_nothing(
    network: Network, name: str
) -> None:
    assert chosen(network, [{"type": name, "init": "keep", "optional": True}]) == {}


def test_a_file_imports_nothing(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "imported_by_a_file.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "rules.json"
    rule = {"type": "imported_by_a_file.Layer", "init": "keep", "optional": True}
    file.write_text(json.dumps({"rules": [rule]}))
    assert chosen(network, file) == {}


def test_the_first_rule_that_matches_wins_and_says_so(network: Network) -> None:
    rules = Rules(
        (
            Rule("blocks.0.attn.weight", "keep"),
            Rule(nn.Linear, Normal(std=0.5), parameter="weight"),
            Rule("*.attn.*", {"name": "constant", "val": 2}),
        )
    )
    choices = rules.choose(network)
    assert {name: (str(c.initializer), c.why) for name, c in choices.items()} == {
        "blocks.0.attn.weight": ("keep", "rule 1: blocks.0.attn.weight"),
        "blocks.1.attn.weight": ("normal(std=0.5)", "rule 2: Linear weight"),
        "blocks.0.attn.bias": ("constant(val=2)", "rule 3: *.attn.*"),
        "blocks.1.attn.bias": ("constant(val=2)", "rule 3: *.attn.*"),
    }


def test_a_rule_that_earlier_ones_shadow_is_no_error(network: Network) -> None:
    assert chosen(network, {"*": "keep", "head.bias": "normal"})["head.bias"] == "keep"


@pytest.mark.parametrize(
    ("rule", "parts"),
    [
        (
            Rule("blocks.*.atn.weight", "normal"),
            ["rule 2 (blocks.*.atn.weight -> normal)", "did you mean blocks.", "attn.weight"],
        ),
        (Rule(re.compile(r"heed\.bias"), "keep"), [r"(heed\.bias -> keep)", "head.bias"]),
        (Rule(nn.Conv2d, "keep"), ["(Conv2d -> keep)", "did you mean Conv1d?"]),
        (Rule(("zzz", "qqq"), "keep"), ["(zzz or qqq -> keep)", "the model has embed.weight, "]),
        (
            Rule(nn.Conv1d, "keep", parameter="bias"),
            ["(Conv1d bias -> keep)", "without 'bias' it would match weight"],
        ),
        (Rule(lambda _: False, "keep"), ["(predicate <lambda> -> keep) matches no parameter"]),
    ],
)
def test_a_rule_that_matches_nothing_is_an_error_unless_optional(
    network: Network, rule: Rule, parts: list[str]
) -> None:
    with pytest.raises(ValueError, match="matches no parameter") as error:
        Rules((Rule("*", "keep"), rule)).choose(network)
    assert [part for part in parts if part not in str(error.value)] == []
    optional = Rule(rule.match, rule.initializer, optional=True, parameter=rule.parameter)
    assert Rules((optional,)).choose(network) == {}


def test_a_model_on_meta_gets_the_same_choices(network: Network) -> None:
    with torch.device("meta"):
        there = Network(Net())
    rules = as_rules([(nn.Linear, "keep"), ("*norm*", "keep"), (nn.Conv1d, "normal")])
    assert rules.choose(there) == rules.choose(network)


@pytest.mark.parametrize(
    "value",
    [
        Rule("head.*", "keep"),
        [Rule("head.*", "keep")],
        (("head.*", "keep"),),
        [["head.*", KEEP]],
        {"head.*": "keep"},
        {"head.*": {"name": "keep"}},
        {"name": "head.*", "init": "keep"},
        [{"name": "head.*", "init": {"name": "keep"}}],
        Rules((Rule("head.*", "keep"),)),
    ],
)
def test_rules_have_many_forms(value: Any) -> None:
    assert as_rules(value) == Rules((Rule("head.*", KEEP),))


def test_no_rules_choose_nothing(network: Network) -> None:
    assert as_rules(None).choose(network) == {}


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (3, TypeError, "rules must be"),
        (["head.*"], TypeError, "rule 1: must be a Rule, a pair"),
        ([Rule("a", "keep"), ("a", 3)], TypeError, "rule 2: an initializer must be"),
        ([("a", "keep"), (3, "keep")], TypeError, "rule 2: a pattern must be"),
        ([("a", "norma")], ValueError, "rule 1: unknown initializer 'norma'; did you mean normal"),
        ({"a": {"std": 1.0}}, ValueError, "an initializer needs a name"),
        ([{"name": "a"}], ValueError, "rule 1: a rule needs init"),
        ([{"name": "*", "init": "he"}], ValueError, "unknown initializer .he.; did you mean he_"),
        ([{"nme": "*", "init": "normal"}], ValueError, "unknown key .nme.; did you mean name"),
        ([{"name": "*", "inti": "normal"}], ValueError, "unknown key .inti.; did you mean init"),
        (
            [Rule("a", "keep"), {"type": "Normal", "layer": "Linear"}],
            ValueError,
            "rule 2: mmengine's dictionaries.* do not mix",
        ),
    ],
)
def test_what_are_no_rules_is_refused(value: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        as_rules(value)


ALL_DATA = [
    Rule("*.weight", Normal(std=0.02)),
    Rule(("a.*", "b.*"), KEEP, optional=True),
    Rule(re.compile(r"\.(q|k)_proj\.", re.IGNORECASE | re.DOTALL), TruncNormal(a=-float("inf"))),
    Rule(nn.Conv2d, KaimingNormal(mode="fan_out", nonlinearity="relu"), parameter="weight"),
    Rule(nn.LSTM, Parts((Constant(0.0), Constant(1.0), Normal(), Constant(0.0)))),
    Rule([nn.Embedding, nn.EmbeddingBag], Padded(Normal(std=0.02), 0)),
]


def test_rules_go_to_json_and_back(network: Network) -> None:
    data = json.loads(json.dumps(Rules(ALL_DATA).to_list()))
    back = as_rules(data)
    assert back.to_list() == data
    assert [rule.initializer for rule in back] == [rule.initializer for rule in ALL_DATA]
    for rule, original in zip(back, ALL_DATA, strict=True):
        assert [*map(rule.matches, network.sites)] == [*map(original.matches, network.sites)]


def test_a_regular_expression_keeps_its_flags_in_data() -> None:
    rule = Rule(re.compile("(?i)head", re.MULTILINE), "keep")
    back = Rule.from_dict(rule.to_dict())
    assert back.matches(Network(nn.ModuleDict({"HEAD": nn.Linear(1, 1)})).sites[0])
    assert Rule.from_dict(back.to_dict()) == back


@pytest.mark.parametrize("match", [lambda _: True, ("a", nn.Linear), ("a", lambda _: True)])
def test_what_only_python_can_say_is_refused_as_data(match: Any) -> None:
    with pytest.raises(ValueError, match=r"Python code|several kinds"):
        Rules((Rule(match, "keep"),)).to_list()


# ---- Files ---------------------------------------------------------------------------------------

TOML = """
recipe = {name = "test", zero_last = true}

[[rules]]
name = "*.attn.weight"
init = "normal"
std = 0.02

[[rules]]
type = "torch.nn.Conv1d"
parameter = "weight"
init = {name = "kaiming_normal", mode = "fan_out", nonlinearity = "relu"}

[[rules]]
regex = "norm\\\\.(weight|bias)$"
init = "keep"

[[rules]]
name = ["cls_token", "pos_embed"]
init = "trunc_normal"
optional = true
"""

JSON = {
    "recipe": {"name": "test", "zero_last": True},
    "rules": [
        {"name": "*.attn.weight", "init": "normal", "std": 0.02},
        {
            "type": "torch.nn.Conv1d",
            "parameter": "weight",
            "init": {"name": "kaiming_normal", "mode": "fan_out", "nonlinearity": "relu"},
        },
        {"regex": r"norm\.(weight|bias)$", "init": "keep"},
        {"name": ["cls_token", "pos_embed"], "init": "trunc_normal", "optional": True},
    ],
}


@pytest.fixture(autouse=True)
def _a_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    def choose(network: Network, *, zero_last: bool = False) -> dict[str, Any]:
        return {}

    monkeypatch.setattr(registry, "_REGISTRY", {"test": registry.Recipe("test", choose, "")})


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


Write = Callable[[str, str | bytes], Path]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rules.toml", TOML),
        ("RULES.TOML", TOML.replace("\n", "\r\n")),
        ("rules.json", json.dumps(JSON)),
        ("rules.json", b"\xef\xbb\xbf" + json.dumps(JSON).encode()),
    ],
)
def test_a_file_holds_a_recipe_and_rules(
    write: Write, network: Network, name: str, content: str | bytes
) -> None:
    recipe, rules, _ = load_recipe(write(name, content))
    assert str(recipe) == "test(zero_last=True)"
    kaiming = "kaiming_normal(mode=fan_out, nonlinearity=relu)"
    assert {name: str(c.initializer) for name, c in rules.choose(network).items()} == {
        f"blocks.{i}.{name}": text
        for name, text in [
            ("attn.weight", "normal(std=0.02)"),
            ("conv.weight", kaiming),
            ("norm.weight", "keep"),
            ("norm.bias", "keep"),
        ]
        for i in (0, 1)
    }


def test_a_file_may_hold_a_recipe_alone_or_rules_alone_or_nothing(write: Write) -> None:
    recipe, rules, _ = load_recipe(write("a.toml", 'recipe = "test"'))
    assert (str(recipe), rules) == ("test", Rules())
    recipe, rules, _ = load_recipe(write("a.toml", '[[rules]]\nname = "*"\ninit = "keep"'))
    assert (recipe, rules) == (None, Rules((Rule("*", "keep"),)))
    assert load_recipe(write("a.json", "{}")) == (None, Rules(), None)


def test_the_documented_file_says_what_the_documented_python_says(write: Write) -> None:
    text = (ROOT / "docs" / "rules.md").read_text()
    python, toml = (
        re.search(rf"```{kind}\n(.*?)```", text, re.DOTALL)[1] for kind in ("python", "toml")
    )
    names: dict[str, Any] = {}
    exec(python.replace('"gpt2"', '"test"'), names)  # noqa: S102  our own
    _, rules, _ = load_recipe(write("rules.toml", toml.replace('"gpt2"', '"test"')))
    with torch.device("meta"):
        network = Network(GPT2())
    in_files = rules.choose(network)
    in_python = as_rules(names["rules"]).choose(network)
    assert {n: c.initializer for n, c in in_files.items()} == {
        n: c.initializer for n, c in in_python.items()
    }


def test_a_file_may_hold_an_init_cfg_of_mmengine(write: Write, network: Network) -> None:
    cfg = {"type": "Constant", "layer": "LayerNorm", "val": 1}
    rules = as_rules(write("a.json", json.dumps({"rules": [cfg]})))
    assert rules == as_rules(cfg)


def test_rules_are_not_read_from_a_file_with_a_recipe_too(write: Write) -> None:
    with pytest.raises(ValueError, match=r"a\.toml: names a recipe, too"):
        as_rules(str(write("a.toml", TOML)))


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"not_there\.toml"):
        load_recipe("not_there.toml")


RULE = '[[rules]]\nname = "a"\ninit = "keep"\n'


def nested(levels: int) -> str:
    init: dict[str, Any] = {"name": "keep"}
    for _ in range(levels):
        init = {"name": "padded", "row": 0, "initializer": init}
    return json.dumps({"rules": [{"name": "a", "init": init}]})


BAD_FILES = [
    # the files themselves
    ("a.yaml", "", ["must be a .toml or .json file"]),
    ("a.toml", "rules = [", ["a.toml: not valid TOML: "]),
    ("a.json", "{", ["not valid JSON"]),
    ("a.json", "", ["not valid JSON"]),
    ("a.json", "[" * 100_000, ["not valid JSON"]),
    ("a.toml", b"recipe = '\xff'", ["not UTF-8"]),
    ("a.toml", "#" * (1 << 20) + "#", ["larger than 1,048,576 bytes"]),
    ("a.json", "[]", ["must hold a table, got list"]),
    # their keys
    ("a.toml", "rule = []", ["unknown key 'rule'", "did you mean rules"]),
    ("a.toml", "rules = 3", ["rules must be tables"]),
    ("a.json", '{"rules": [["a", "keep"]]}', ["rules must be tables"]),
    ("a.toml", "recipe = 3", ["recipe must be a name, or a table", "got 3"]),
    ("a.toml", "recipe = {zero_last = true}", ["recipe must be a name, or a table"]),
    ("a.toml", 'recipe = "tets"', ["unknown recipe 'tets'", "did you mean test"]),
    (
        "a.toml",
        'recipe = {name = "test", zero = 1}',
        ["no option 'zero'", "did you mean zero_last"],
    ),
    # their rules
    ("a.toml", '[[rules]]\nnama = "x"\ninit = "keep"', ["unknown key 'nama'; did you mean name"]),
    ("a.toml", RULE + "[[rules]]", ["rule 2", "one of name, regex and type, got none"]),
    ("a.toml", RULE + 'type = "b"', ["rule 1", "got both name and type"]),
    ("a.toml", RULE + '[[rules]]\nname = "a"', ["rule 2", "needs init"]),
    ("a.toml", RULE + "optional = 1", ["rule 1", "optional must be bool, got 1"]),
    ("a.toml", RULE + "parameter = []", ["rule 1", "parameter must be str, got []"]),
    ("a.toml", '[[rules]]\nname = 3\ninit = "keep"', ["rule 1", "name must be a string or a list"]),
    ("a.toml", '[[rules]]\ntype = []\ninit = "keep"', ["rule 1", "type must be a string"]),
    ("a.toml", '[[rules]]\nregex = "("\ninit = "keep"', ["rule 1", "regex '('", "unterminated"]),
    ("a.toml", '[[rules]]\nname = "a"\ninit = 3', ["rule 1", "init must be a name or a table"]),
    ("a.toml", RULE + "option = true", ["rule 1", "does not take 'option'", "optional"]),
    (
        "a.toml",
        '[[rules]]\nname = "a"\ninit = {name = "keep"}\noption = true',
        ["rule 1", "unknown key 'option'; did you mean optional"],
    ),
    (
        "a.json",
        '{"rules": [{"type": "Normal", "layer": "A"}, {"type": "Normal", "layer": "A", "sd": 1}]}',
        ["init_cfg 2", "does not take 'sd'"],
    ),
    # their initializers
    (
        "a.toml",
        '[[rules]]\nname = "a"\ninit = "norma"',
        ["rule 1", "unknown initializer 'norma'", "normal"],
    ),
    ("a.toml", '[[rules]]\nname = "a"\ninit = {std = 1}', ["rule 1", "needs a name"]),
    ("a.json", nested(400), ["rule 1", "recursion"]),
    *(
        ("a.toml", f'[[rules]]\nname = "a"\ninit = {{{init}}}', ["rule 1", *parts])
        for init, parts in [
            ('name = "normal", sd = 1', ["does not take 'sd'", "mean, std"]),
            ('name = "normal", std = "1"', ["std must be float, got '1'"]),
            ('name = "normal", std = true', ["std must be float, got True"]),
            ('name = "normal", std = -1', ["std must be at least 0"]),
            ('name = "lecun_normal", batch_dims = true', ["batch_dims must be int", "got True"]),
            ('name = "normal", std = 1979-05-27', ["std must be float"]),
            (f'name = "normal", std = 1{"0" * 400}', ["initializer 'normal'", "too large"]),
            ('name = "constant"', ["initializer 'constant'", "'val'"]),
            ('name = "kaiming_normal", mode = "in"', ["Mode in not supported", "fan_in"]),
            (
                'name = "padded", row = 0, initializer = "normal"',
                ["initializer must be a table of"],
            ),
            ('name = "padded", row = 0, initializer = {std = 1}', ["needs a name"]),
            ('name = "parts", parts = [1]', ["parts must be"]),
            ('name = "parts", parts = ["normal"]', ["parts must be a list of tables, each of"]),
        ]
    ),
]


@pytest.mark.parametrize(("name", "content", "parts"), BAD_FILES)
def test_a_bad_file_is_refused_by_name_rule_and_key(
    write: Write, name: str, content: str | bytes, parts: list[str]
) -> None:
    path = write(name, content)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: ") as error:
        load_recipe(path)
    assert [part for part in parts if part not in str(error.value)] == []


class Experts(nn.Module):
    """Four linear layers as one parameter, whose inputs stand before the outputs."""

    def __init__(self):
        super().__init__()
        self.stack = nn.Parameter(torch.ones(4, 30, 50))


STACKED = {"name": "kaiming_normal", "nonlinearity": "relu", "batch_dims": 1, "transposed": True}


def test_a_rule_says_how_the_experts_of_a_mixture_lie(tmp_path):
    file = tmp_path / "rules.toml"
    file.write_text(
        '[[rules]]\nname = "stack"\ninit = {name = "kaiming_normal", nonlinearity = "relu", '
        "batch_dims = 1, transposed = true}\n"
    )
    models = Experts(), Experts()
    reports = [
        pyinit.initialize_(model, "test", rules=rules, seed=0)
        for model, rules in zip(models, ({"stack": STACKED}, file), strict=True)
    ]
    row = reports[0]["stack"]
    assert (row.fan_in, row.fan_out) == (30, 50)
    assert row.target_std == pytest.approx(math.sqrt(2 / 30))
    assert row.initializer.to_dict() == STACKED | {"a": 0.0, "mode": "fan_in"}
    assert (
        str(row.initializer) == "kaiming_normal(nonlinearity=relu, transposed=True, batch_dims=1)"
    )
    assert torch.equal(models[0].stack, models[1].stack)
    reports[0].save(tmp_path / "report.json")
    replayed = Experts()
    pyinit.replay_(replayed, pyinit.InitReport.load(tmp_path / "report.json"))
    assert torch.equal(replayed.stack, models[0].stack)


@pytest.mark.parametrize("batch_dims", [2, -1, True])
def test_batch_dims_that_leave_no_matrix_are_refused(batch_dims):
    model = Experts()
    with pytest.raises(ValueError, match=r"rule 1.* batch_dims must"):
        pyinit.initialize_(
            model, "test", rules={"stack": STACKED | {"batch_dims": batch_dims}}, seed=0
        )
    assert (model.stack == 1).all()
