"""``search_recipe``: the choice of initializers with the lowest score."""

import copy
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.nn.utils import parametrizations

import pyinit
from pyinit.data_driven.search import SearchReport
from pyinit.inspection.batches import Batch

STDS = (0.01, 0.1, 0.5)
NORMALS = [{"name": "normal", "std": std} for std in STDS]


def net(layers: int = 3, width: int = 12) -> nn.Sequential:
    hidden = (part for _ in range(layers - 1) for part in (nn.Linear(width, width), nn.Tanh()))
    return nn.Sequential(*hidden, nn.Linear(width, 4))


def batch(count: int = 32, width: int = 12) -> tuple[Tensor, Tensor]:
    x = torch.randn(count, width, generator=torch.Generator().manual_seed(0))
    return x, x[:, :4].argmax(1)


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, second[name]) for name, value in first.items())


def far_from(*stds: float) -> Callable[[nn.Module, Any], float]:
    """A score that is lowest where the weights have these standard deviations."""

    def score(model: nn.Module, _: object) -> float:
        weights = [each for each in model.parameters() if each.dim() > 1]
        return sum(
            abs(float(w.detach().std().log10() - torch.tensor(std).log10()))
            for w, std in zip(weights, stds, strict=True)
        )

    return score


def chosen(report: SearchReport) -> list[str]:
    return [row.after for row in report]


def quotient(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """By the whole Hessian."""
    values = {name: each.detach().double() for name, each in model.named_parameters()}
    shapes = [(name, each.shape, each.numel()) for name, each in values.items()]
    flat = torch.cat([each.flatten() for each in values.values()])

    def loss(flat: Tensor) -> Tensor:
        parts = flat.split([count for *_, count in shapes])
        of = {name: part.view(shape) for (name, shape, _), part in zip(shapes, parts, strict=True)}
        return functional.cross_entropy(functional_call(model, of, (x.double(),)), y)

    g = torch.autograd.functional.jacobian(loss, flat)
    after = g - torch.autograd.functional.hessian(loss, flat) @ g
    return float((after / (g + 1e-5 * torch.where(g >= 0, 1.0, -1.0)) - 1).abs().mean())


def trained(model: nn.Module, x: Tensor, y: Tensor, steps: int, lr: float) -> float:
    model = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr)
    for _ in range(steps):
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return functional.cross_entropy(model(x), y).item()


@pytest.mark.parametrize("planted", [(0.01, 0.5, 0.1), (0.5, 0.5, 0.01)])
def test_the_planted_best_of_a_small_space_is_found(planted: tuple[float, ...]) -> None:
    model = net()
    report = pyinit.search_recipe(
        model, batch(), schemes=NORMALS, score=far_from(*planted), trials=27, seed=0
    )
    assert chosen(report) == [f"normal(std={std:g})" for std in planted]
    assert (report.trials, report.space) == (27, 27)
    for weight, std in zip(model[::2], planted, strict=True):
        assert float(weight.weight.detach().std()) == pytest.approx(std, rel=0.3)


def test_the_planted_best_of_a_space_that_is_too_large_to_be_tried_whole_is_found() -> None:
    planted = (0.01, 0.5, 0.1, 0.1, 0.5, 0.01)
    report = pyinit.search_recipe(
        net(6), batch(), schemes=NORMALS, score=far_from(*planted), trials=120, seed=0
    )
    assert chosen(report) == [f"normal(std={std:g})" for std in planted]
    assert (report.trials, report.space) == (120, 729)


def test_what_the_base_gives_is_tried_first_so_that_nothing_is_lost() -> None:
    report = pyinit.search_recipe(net(6), batch(), score="loss", trials=1, seed=0)
    assert report.score_after == report.score_before
    assert [row.before for row in report] == chosen(report)


@pytest.mark.parametrize(
    ("score", "by_hand", "tolerance"),
    [
        ("gradient_quotient", quotient, 2e-3),
        ("loss", lambda model, x, y: trained(model, x, y, 10, 0.1), 1e-4),
    ],
)
def test_what_is_found_has_the_lowest_score_of_all(
    score: str, by_hand: Callable[..., float], tolerance: float
) -> None:
    x, y = batch()
    model = net(2)
    report = pyinit.search_recipe(model, (x, y), schemes=NORMALS, score=score, seed=3)
    scores = {}
    for several in product(STDS, repeat=2):
        other = net(2)
        rules = {
            f"{2 * i}.weight": pyinit.initializers.Normal(std=s) for i, s in enumerate(several)
        }
        pyinit.initialize_(other, "auto", rules=rules, seed=3)
        scores[several] = by_hand(other, x, y)
    best = min(scores, key=scores.__getitem__)
    assert chosen(report) == [f"normal(std={std:g})" for std in best]
    assert report.score_after == pytest.approx(scores[best], rel=tolerance)
    start = net(2)
    pyinit.initialize_(start, "auto", seed=3)
    assert report.score_before == pytest.approx(by_hand(start, x, y), rel=tolerance)


def test_a_replay_gives_the_same_bits(tmp_path: Path) -> None:
    model = net()
    report = pyinit.search_recipe(model, batch(), trials=5, seed=0)
    report.save(tmp_path / "search.json")
    read = pyinit.SearchReport.load(tmp_path / "search.json")
    assert read == report
    other = net()
    pyinit.replay_(other, read)
    assert same(state(model), state(other))


def test_it_is_what_rules_give() -> None:
    model, other = net(2), net(2)
    report = pyinit.search_recipe(model, batch(), schemes=NORMALS, seed=8)
    rules = {row.name: report.init[row.name].initializer for row in report}
    pyinit.initialize_(other, "auto", rules=rules, seed=8)
    assert same(state(model), state(other))


def test_groups_share_a_choice_and_the_first_pattern_counts() -> None:
    model = net(4)
    schemes = {"6": [NORMALS[2]], nn.Linear: [None, *NORMALS]}
    planted = far_from(0.1, 0.1, 0.1, 0.1)
    report = pyinit.search_recipe(model, batch(), schemes=schemes, score=planted, seed=0)
    assert chosen(report) == ["normal(std=0.5)", *["normal(std=0.1)"] * 3]
    assert [row.group for row in report] == ["6", *["Linear"] * 3]
    assert report.space == 4


def test_what_no_pattern_matches_stays_and_is_named() -> None:
    model, plain = net(), net()
    report = pyinit.search_recipe(model, batch(), schemes={"0": NORMALS}, seed=0)
    pyinit.initialize_(plain, seed=0)
    assert torch.equal(model[2].weight, plain[2].weight)
    assert dict(report.left)["2.weight"] == "no pattern of schemes matches it"


def test_only_layers_are_initialized_and_searched() -> None:
    model = net()
    before = state(model)
    report = pyinit.search_recipe(model, batch(), layers="2", trials=4, seed=0)
    assert [row.name for row in report] == ["2.weight"]
    changed = {name for name, value in model.state_dict().items() if not value.equal(before[name])}
    assert changed == {"2.weight", "2.bias"}


def test_a_function_that_builds_a_model_is_called_once_and_its_report_serves_another() -> None:
    built: list[nn.Module] = []

    def build() -> nn.Module:
        built.append(net())
        return built[-1]

    torch.manual_seed(0)
    states = torch.get_rng_state()
    report = pyinit.search_recipe(build, batch(), trials=4, seed=0)
    assert torch.equal(torch.get_rng_state(), states)
    model = net()
    pyinit.replay_(model, report)
    (only,) = built
    assert same(state(model), state(only))


def test_a_score_may_train_the_model() -> None:
    model = nn.Sequential(nn.Linear(12, 8), nn.BatchNorm1d(8), nn.Linear(8, 4))

    def score(model: nn.Module, batch: Any) -> float:
        optimizer = torch.optim.Adam(model.parameters())
        functional.cross_entropy(model(*batch.args), batch.target).backward()
        optimizer.step()
        model.eval()
        return functional.cross_entropy(model(*batch.args), batch.target).item()

    report = pyinit.search_recipe(model, batch(), trials=3, score=score, seed=0)
    again = copy.deepcopy(model)
    pyinit.replay_(again, report)
    assert same(state(model), state(again))
    assert model.training
    assert all(each.grad is None for each in model.parameters())
    assert int(model[1].num_batches_tracked) == 0
    x, y = batch()
    assert score(model, Batch((x,), {}, y)) == report.score_after


@pytest.mark.parametrize("score", ["gradient_quotient", "loss"])
def test_scores_leave_all_but_the_weights(score: str) -> None:
    model = nn.Sequential(
        *(nn.Linear(12, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.ReLU()),
        parametrizations.weight_norm(nn.Linear(8, 8)),
        nn.Linear(8, 4),
    )
    plain = copy.deepcopy(model)
    report = pyinit.search_recipe(model, batch(), trials=6, score=score, seed=0)
    pyinit.initialize_(plain, seed=0)
    found, expected = state(model), state(plain)
    for name in (name for name in found if "weight" not in name or name == "1.weight"):
        assert torch.equal(found[name], expected[name]), name
    assert {row.name for row in report} == {"0.weight", "4.weight", "5.weight"}


def test_padding_stays_zero() -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.out = nn.Embedding(9, 6, padding_idx=1), nn.Linear(6, 9)

        def forward(self, tokens: Tensor) -> Tensor:
            return self.out(self.words(tokens)).movedim(-1, 1)

    model = Words()
    tokens = torch.arange(18).view(2, 9) % 9
    report = pyinit.search_recipe(model, (tokens, tokens), schemes=NORMALS, seed=0)
    assert not model.words.weight[1].any()
    assert model.words.weight[2].any()
    assert {row.name for row in report} == {"words.weight", "out.weight"}


# ---- the study's file ----------------------------------------------------------------------------


class Stop:
    """A score that raises after some calls."""

    def __init__(self, after: int, error: type[BaseException]) -> None:
        self.left, self.error, self.calls = after, error, 0
        self.score = far_from(0.1, 0.1, 0.1)

    def __call__(self, model: nn.Module, batch: Any) -> float:
        self.calls += 1
        if self.left == 0:
            raise self.error("stopped")
        self.left -= 1
        return self.score(model, batch)


@pytest.mark.parametrize("trials", [12, 40])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_what_is_raised_leaves_the_model_and_the_search_goes_on_from_its_file(
    tmp_path: Path, error: type[BaseException], trials: int
) -> None:
    x, y = batch()
    arguments = {"schemes": NORMALS, "trials": trials, "seed": 4}
    whole = pyinit.search_recipe(net(), (x, y), score=Stop(99, error), **arguments)

    model = net()
    before, states = state(model), torch.get_rng_state()
    file = tmp_path / "search.log"
    with pytest.raises(error, match="stopped"):
        pyinit.search_recipe(model, (x, y), score=Stop(6, error), study=file, **arguments)
    assert same(state(model), before)
    assert torch.equal(torch.get_rng_state(), states)

    rest = Stop(99, error)
    report = pyinit.search_recipe(model, (x, y), score=rest, study=file, **arguments)
    assert report == whole
    scored_before, of_base = 5, 1
    assert rest.calls <= min(trials, 27) - scored_before + of_base


def test_a_finished_study_is_only_applied_with_its_own_seed(tmp_path: Path) -> None:
    file = tmp_path / "search.log"
    first, second = net(), net()
    report = pyinit.search_recipe(first, batch(), trials=4, study=file)
    again = pyinit.search_recipe(second, batch(), trials=4, study=str(file))
    assert again == report
    assert same(state(first), state(second))
    assert pyinit.search_recipe(net(), batch(), trials=7, study=file).trials == 7


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": 1}, "of another search: seed is 0, got 1"),
        ({"score": "loss"}, "score is 'gradient_quotient', got 'loss'"),
        ({"schemes": NORMALS}, "it has other schemes"),
        ({"base": "kaiming"}, r"base is \['auto'\], got \['kaiming'\]"),
        ({"data": batch(16)}, "it has other data"),
        ({"model_or_factory": net(3, 12).append(nn.Linear(4, 4))}, "it has other weights"),
    ],
)
def test_the_study_of_another_search_is_refused(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    file = tmp_path / "search.log"
    arguments = {"model_or_factory": net(), "data": batch(), "seed": 0}
    pyinit.search_recipe(**arguments, study=file, trials=2)
    before = file.read_bytes()
    with pytest.raises(ValueError, match=message):
        pyinit.search_recipe(**{**arguments, **changed}, study=file, trials=2)
    assert file.read_bytes() == before


@pytest.mark.parametrize("content", [b"no study\n", b'{"a": 1}\n', bytes(range(40))])
def test_another_file_is_refused_and_stays(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "notes.txt"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"notes.txt is no study of search_recipe"):
        pyinit.search_recipe(net(), batch(), study=file, trials=1)
    assert file.read_bytes() == content


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder"):
        pyinit.search_recipe(net(), batch(), study=tmp_path / "none" / "s.log", trials=1)


# ---- refusals ------------------------------------------------------------------------------------


class NoSecond(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return gradient * 2


class Doubled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return NoSecond.apply(x)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"trials": 0}, ValueError, "trials must be a whole number of at least 1, got 0"),
        ({"steps": 0}, ValueError, "steps must be"),
        ({"lr": 0.0}, ValueError, "lr must be a number above 0"),
        ({"score": "gradient_quotent"}, ValueError, "did you mean gradient_quotient"),
        ({"score": 3}, TypeError, "score must be 'gradient_quotient' or 'loss', or a function"),
        ({"score": lambda *_: "low"}, TypeError, "score must return a number, got 'low'"),
        ({"score": lambda *_: float("nan")}, ValueError, "no score is finite, of 5 trials"),
        ({"schemes": []}, ValueError, "schemes must have at least one"),
        ({"schemes": {}}, ValueError, "schemes must name weights"),
        ({"schemes": "orthogonal"}, TypeError, "schemes must be a list of initializers"),
        ({"schemes": ["orthogonl"]}, ValueError, "schemes: .*did you mean orthogonal"),
        (
            {"schemes": ["nothing", "orthogonal"]},
            ValueError,
            "schemes: unknown initializer 'nothing'",
        ),
        ({"schemes": [3]}, TypeError, "schemes: an initializer must be"),
        ({"schemes": ["orthogonal"] * 2}, ValueError, "schemes has orthogonal.* twice"),
        ({"schemes": ["keep"]}, ValueError, "draws nothing for 0.weight"),
        ({"schemes": ["delta_orthogonal"]}, ValueError, "cannot fill 0.weight"),
        ({"schemes": {"conv*": ["orthogonal"]}}, ValueError, r"schemes\['conv\*'\] matches no"),
        ({"schemes": {"*": NORMALS, "0": NORMALS}}, ValueError, "that an earlier pattern leaves"),
        ({"base": None}, ValueError, "base must be a recipe, got None"),
        ({"base": "kaimin"}, ValueError, "did you mean kaiming"),
        ({"data": None}, ValueError, "measures on data, got None"),
        ({"data": torch.full((3, 12), torch.nan)}, ValueError, "NaN"),
        ({"data": iter(())}, ValueError, "exhausted"),
        ({"model_or_factory": 3}, TypeError, "model_or_factory must be a torch.nn.Module or"),
        ({"model_or_factory": lambda: 3}, TypeError, "must build a torch.nn.Module, got int"),
        ({"model_or_factory": nn.Tanh()}, ValueError, "needs a layer with a weight"),
        ({"layers": "tail"}, ValueError, "matches no layer"),
        ({"seed": -1}, ValueError, "seed must be in"),
        (
            {"model_or_factory": nn.Sequential(nn.Linear(12, 4), Doubled())},
            RuntimeError,
            "needs second derivatives, and NoSecond has none",
        ),
    ],
)
def test_what_cannot_be_searched_is_refused_and_nothing_changes(
    arguments: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    model = arguments.get("model_or_factory", net())
    before = state(model) if isinstance(model, nn.Module) else {}
    given: dict[str, Any] = {"model_or_factory": model, "data": batch(), "trials": 5, **arguments}
    states = torch.get_rng_state()
    with pytest.raises(error, match=message):
        pyinit.search_recipe(**given)
    assert torch.equal(torch.get_rng_state(), states)
    if before:
        assert same(state(model), before)


@pytest.mark.parametrize(
    "arguments", [{"schemes": ["x"]}, {"data": torch.ones(3, 5)}, {"score": lambda *_: "low"}]
)
def test_refusals_leave_no_file(tmp_path: Path, arguments: dict[str, Any]) -> None:
    given: dict[str, Any] = {"data": batch(), "study": tmp_path / "s.log", **arguments}
    with pytest.raises((ValueError, TypeError, RuntimeError)):
        pyinit.search_recipe(net(), **given)
    assert not list(tmp_path.iterdir())


def test_an_infinite_score_only_loses() -> None:
    def score(model: nn.Module, _: object) -> float:
        std = float(model[0].weight.detach().std())
        return std if std > 0.3 else float("nan")

    report = pyinit.search_recipe(net(), batch(), schemes=NORMALS, score=score, seed=0)
    assert chosen(report)[0] == "normal(std=0.5)"


def test_without_optuna_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r'pip install "pyinit\[search\]"'):
        pyinit.search_recipe(net(), batch())


@pytest.mark.parametrize("verbose", [False, True])
def test_optuna_is_quiet_unless_asked(
    verbose: bool, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    before = optuna.logging.get_verbosity()
    pyinit.search_recipe(net(), batch(), trials=2, seed=0, verbose=verbose)
    assert ("trial 0: score" in capsys.readouterr().out) == verbose
    assert any(each.name.startswith("optuna") for each in caplog.records) == verbose
    assert optuna.logging.get_verbosity() == before


def test_a_recipe_file_may_name_it(tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text(
        'recipe = "kaiming"\nafter = {name = "search", trials = 3, schemes = ["orthogonal", "lecun_normal"]}'
    )
    model, other = net(), net()
    report = pyinit.initialize_(model, file, seed=0, data=batch())
    assert report.method == "search(trials=3)"
    pyinit.replay_(other, report)
    assert same(state(model), state(other))
