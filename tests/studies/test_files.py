"""Studies as TOML: one to one with Python, and what is wrong is named by its key and line."""

from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
import torch
from study_parts import misfit, mlp, small_

import pyinit
from pyinit.studies import Claim, Study, Training
from pyinit.studies.runs import runs_of
from pyinit.studies.toml_files import line_of, presets, schema, tomllib

WHOLE = """
name = "whole"
question = "Which start is best?"
model = "study_parts:mlp"
data = "digits"
seeds = 3
steps = 20
track = false

[arms]
xavier = "xavier"
lsuv = { method = "lsuv", tolerance = 0.2 }
mine = { function = "study_parts:small_" }
keras = { keras = "RandomNormal", stddev = 0.02 }
rules = { rules = { "1.weight" = { name = "constant", val = 0.5 } } }
head = [
    "pretrained",
    { recipe = "normal", std = 0.01, only = "4.*" },
]

[arguments]
dropout = 0.25

[training]
optimizer = "adam"
lr = [0.001, 0.01]
batch_size = 32
schedule = "cosine"

[factors]
width = [4, 8]
momentum = [0.0, 0.9]

[[claims]]
metric = "accuracy"
better = "lsuv"
than = "mine"
where = { width = 8 }
at_least = 0.01
text = "More is better."

[[claims]]
metric = "steps_to_accuracy:0.5"
arm = "xavier"
below = 15

[[claims]]
metric = "test_loss"
same = ["xavier", "lsuv"]
within = 0.1

[[claims]]
metric = "accuracy"
arm = "lsuv"
above = -0.1
where = {width = 8, momentum = 0.9}
versus = {width = 4}

[full]
seeds = 10
epochs = 5

[full.training]
batch_size = 64
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def in_python() -> Study:
    return Study(
        name="whole",
        question="Which start is best?",
        model="study_parts:mlp",
        data="digits",
        arms={
            "xavier": "xavier",
            "lsuv": pyinit.method("lsuv", tolerance=0.2),
            "mine": small_,
            "keras": {"keras": "RandomNormal", "stddev": 0.02},
            "rules": {"rules": {"1.weight": {"name": "constant", "val": 0.5}}},
            "head": ["pretrained", {"recipe": "normal", "std": 0.01, "only": "4.*"}],
        },
        seeds=3,
        steps=20,
        track=False,
        arguments={"dropout": 0.25},
        training=Training("adam", lr=(0.001, 0.01), batch_size=32, schedule="cosine"),
        factors={"width": (4, 8), "momentum": (0.0, 0.9)},
        claims=(
            Claim("accuracy", better="lsuv", than="mine", where={"width": 8}, at_least=0.01,
                  text="More is better."),
            Claim("steps_to_accuracy:0.5", arm="xavier", below=15),
            Claim("test_loss", same=("xavier", "lsuv"), within=0.1),
            Claim("accuracy", arm="lsuv", above=-0.1, where={"width": 8, "momentum": 0.9},
                  versus={"width": 4}),
        ),
        full={"seeds": 10, "epochs": 5, "training": {"batch_size": 64}},
    )  # fmt: skip


def test_a_file_and_python_say_the_same(tmp_path: Path) -> None:
    of_file, of_python = Study.load(written(tmp_path, WHOLE)), in_python()
    assert of_file.to_toml() == of_python.to_toml()
    assert of_file.claims == of_python.claims
    assert of_file.training == of_python.training
    assert [each.fingerprint for each in runs_of(of_file)] == [
        each.fingerprint for each in runs_of(of_python)
    ]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    text = in_python().to_toml()
    again = Study.load(written(tmp_path, text))
    assert again.to_toml() == text
    assert again == replace(in_python(), arms=again.arms)


def test_the_schema_takes_what_a_study_takes(tmp_path: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    check = jsonschema.Draft202012Validator(schema())
    check.validate(tomllib.loads(WHOLE))
    for path in presets().values():
        check.validate(tomllib.loads(path.read_text(encoding="utf-8")))


WRONG = {
    'seeds = "3"': ("seeds = 3", "line 6: seeds: must be a whole number of at least 1 and at most 1000000, got '3'"),
    "seeds = 0": ("seeds = 3", "line 6: seeds: must be a whole number of at least 1 and at most 1000000, got 0"),
    "track = 1": ("track = false", "line 8: track: must be true or false, got 1"),
    'sedes = 3': ("seeds = 3", "line 6: sedes: there is no such key; did you mean seeds"),
    'xavier = "xavir"': ('xavier = "xavier"',
        "line 11: arms.xavier: no recipe, method or initializer of Keras is named 'xavir'; did you mean"),
    'xavier = { recipe = 3 }': ('xavier = "xavier"', "line 11: arms.xavier.recipe: must be a name, got 3"),
    'xavier = {}': ('xavier = "xavier"', "line 11: arms.xavier: an arm's table has one of the keys"),
    "tolerances = 0.2": ("tolerance = 0.2", "line 12: arms.lsuv: method 'lsuv' has no option 'tolerances'"),
    'function = "study_parts:little_"': ('function = "study_parts:small_"',
        "line 13: arms.mine: cannot import 'study_parts:little_'"),
    'keras = "RandomNorml"': ('keras = "RandomNormal"',
        "line 14: arms.keras: 'RandomNorml' is no initializer of Keras's that pyinit knows; did you mean RandomNormal"),
    'only = 3 },': ('only = "4.*" },', "line 16: arms.head"),
    'optimizer = "adm"': ('optimizer = "adam"',
        "line 25: training.optimizer: 'adm' is unknown; did you mean adam"),
    "lr = [0.001, -1]": ("lr = [0.001, 0.01]", "line 26: training.lr: must be a number above 0, or a list"),
    "batchsize = 32": ("batch_size = 32", "line 27: training.batchsize: there is no such key; did you mean batch_size"),
    "width = [4, 4]": ("width = [4, 8]", "line 30: factors"),
    'momentum = ["a", "b"]': ("momentum = [0.0, 0.9]", "line 32: factors.momentum: must be a number of at least 0, got 'a'"),
    'metric = "accuracyy"': ('metric = "accuracy"', "line 35: claims[0].metric: there is no metric 'accuracyy'; did you mean accuracy"),
    'better = "lsvu"': ('better = "lsuv"', "line 36: claims[0].better.lsvu: there is no such arm; did you mean lsuv"),
    "where = { width = 9 }": ("where = { width = 8 }", "line 38: claims[0].where.width: is never 9; it takes 4, 8"),
    "where = { wdth = 8 }": ("where = { width = 8 }", "line 38: claims[0].where.wdth: there is no such factor; did you mean width"),
    'same = ["xavier"]': ('same = ["xavier", "lsuv"]', "claims[2].same: must be a list of two arms"),
    "steps = 20\nepochs = 2": ("steps = 20", "line 8: epochs: give either steps or epochs, got both"),
    "batch_seeds = true": ("batch_size = 32", "line 27: training.batch_seeds: needs track = false"),
    "batch_seeds = [false, true]": ("momentum = [0.0, 0.9]", "line 32: factors.batch_seeds: needs track = false"),
    "data = 5": ('data = "digits"', "line 5: data: must be a text, got 5"),
    "data = [5, 6]": ("width = [4, 8]", "line 31: factors.data: must be a text, got 5"),
    "data = 7\nepochs = 5": ("epochs = 5", "line 61: full.data: must be a text, got 7"),
    "seed = [4, 8]": ("width = [4, 8]", "line 31: factors.seed: is the name of a column of the results"),
    "momentum = [0.0, 1]": ("momentum = [0.0, 0.9]", "line 32: factors.momentum: must be below 1 with adam, got 1"),
    "momentum = 1": ("batch_size = 32", "line 27: training.momentum: must be below 1 with adam, got 1.0"),
    'xavier = { pretrained = true, steps = "x" }': ('xavier = "xavier"',
        "line 11: arms.xavier.steps: must be a whole number of at least 1, got 'x'"),
    'function = "math:sqrt"': ('function = "study_parts:small_"',
        "line 13: arms.mine: must be a function of a model, got <built-in function sqrt>"),
    'function = "torch.nn:Linear"': ('function = "study_parts:small_"', "line 13: arms.mine: must be a function of a model"),
    'function = "study_parts:small_", std = 3': ('function = "study_parts:small_"',
        "line 13: arms.mine: cannot be called with a model, a batch and a seed at most, and its options: got an"),
    'function = "study_parts:small_", model = 3': ('function = "study_parts:small_"',
        "line 13: arms.mine: cannot be called"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_key_is_named_with_its_line(wrong: str, tmp_path: Path) -> None:
    right, told = WRONG[wrong]
    assert right in WHOLE
    text = WHOLE.replace("track = false", "") if "batch_seeds" in wrong else WHOLE
    path = written(tmp_path, text.replace(right, wrong, 1))
    with pytest.raises(ValueError, match=r"mine\.toml") as caught:
        Study.load(path)
    assert told in str(caught.value)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not valid TOML"):
        Study.load(written(tmp_path, "seeds = = 3"))
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe9"')
    with pytest.raises(ValueError, match=r"latin\.toml: not valid TOML: 'utf-8' codec"):
        Study.load(tmp_path / "latin.toml")
    with pytest.raises(ValueError, match="the key model is missing"):
        Study.load(written(tmp_path, "seeds = 3"))
    with pytest.raises(FileNotFoundError):
        Study.load(tmp_path / "none.toml")
    with pytest.raises(ValueError, match="there is no study 'mnist-cn'"):
        Study.load("mnist-cn")
    with pytest.raises(ValueError, match="claims: must be tables"):
        Study.load(
            written(tmp_path, 'model = "a:b"\ndata = "digits"\narms = {a = "xavier"}\nclaims = 3')
        )


def test_the_line_is_where_a_value_begins() -> None:
    text = "a = 1\n\nb = [\n  1,\n  2,\n]\n[c]\n# d = 0\nd = '''\nd = 3\n'''\n[[e]]\nf = 1\n[[e]]\nf = 2\n"
    found = [
        line_of(text, path) for path in (("a",), ("b", 1), ("c", "d"), ("e", 1, "f"), ("c", "none"))
    ]
    assert found == [1, 3, 9, 15, 7]
    assert line_of(text, ("none",)) is None


def test_the_full_size_changes_what_it_names() -> None:
    full = in_python().full_size()
    assert (full.seeds, full.steps, full.epochs) == (10, None, 5)
    assert full.training == replace(in_python().training, batch_size=64)
    assert not full.full
    claims = [{"metric": "accuracy", "arm": "mine", "above": 0.5}]
    assert replace(in_python(), full={"claims": claims}).full_size().claims == (Claim(**claims[0]),)
    with pytest.raises(ValueError, match=r"full\.training\.bach: there is no such field"):
        replace(in_python(), full={"training": {"bach": 3}}).full_size()


def test_what_a_file_cannot_name_is_told() -> None:
    def local(model: torch.nn.Module) -> None:
        pass

    study = Study(mlp, "digits", {"he": "kaiming"}, steps=3)
    assert 'model = "study_parts:mlp"' in study.to_toml()
    for changed in ({"model": lambda: misfit}, {"arms": {"mine": local}}):
        with pytest.raises(ValueError, match="a file cannot name <function"):
            replace(study, **changed).to_toml()
    with pytest.raises(ValueError, match="a file cannot name tuple in memory"):
        replace(study, data=(torch.zeros(8, 64), torch.zeros(8))).to_toml()
    with pytest.raises(
        ValueError, match="arguments: a file cannot hold it: Object of type 'NoneType'"
    ):
        replace(study, arguments={"width": None}).to_toml()
    claims = [Claim("accuracy", arm="he", above=0.5)]
    assert "above = 0.5" in replace(study, full={"claims": claims}).to_toml()


@pytest.mark.parametrize(
    ("versus", "told"),
    [
        ("{widths = 4}", "versus.widths: there is no such factor in where; did you mean width"),
        ("{momentum = 0.0}", "versus.momentum: there is no such factor in where"),
        ("{width = 5}", r"versus.width: is never 5; it takes 4, 8"),
        ("{width = 8}", "versus.width: is 8 in where, too: nothing is compared"),
        ("4", "versus: must be a table of factors and their values, got 4"),
    ],
)
def test_a_place_to_compare_with_is_a_value_that_the_factor_has(
    versus: str, told: str, tmp_path: Path
) -> None:
    text = WHOLE.replace("where = {width = 8, momentum = 0.9}", "where = {width = 8}")
    text = text.replace("versus = {width = 4}", f"versus = {versus}")
    with pytest.raises(ValueError, match=rf"line \d+: claims\[3\].{told}"):
        Study.load(written(tmp_path, text))
