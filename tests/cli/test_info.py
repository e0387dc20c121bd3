"""``pyinit info``."""

import json

import torch
from click.testing import CliRunner

import pyinit
from pyinit.cli import main


def test_json_is_what_the_function_returns() -> None:
    result = CliRunner().invoke(main, ["info", "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == pyinit.info()


def test_facts() -> None:
    info = pyinit.info()
    assert info["version"] == pyinit.__version__
    assert info["isa"] in info["available_isas"]
    assert info["threads"] == torch.get_num_threads()
    assert info["torch"] == torch.__version__
    assert info["rng"] == pyinit.get_rng()


def test_table_shows_every_fact() -> None:
    result = CliRunner().invoke(main, ["info"])
    assert result.exit_code == 0
    for name, value in pyinit.info().items():
        assert name.replace("_", " ") in result.stdout
        if isinstance(value, str):
            assert value[:40] in result.stdout


def test_version() -> None:
    result = CliRunner().invoke(main, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"pyinit, version {pyinit.__version__}\n")
