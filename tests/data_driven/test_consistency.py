"""``consistency_aware_``: outputs come nearer to a target, and nothing is changed that does not bring them nearer."""

import copy
import functools
import math
from collections.abc import Callable
from itertools import accumulate, pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import pyinit
from pyinit import datasets, distances
from pyinit.inspection.walk import walk
from pyinit.models import build

DISTANCES = list(distances.DISTANCES)
NORMAL = pyinit.recipe("normal", std=0.01)


def batch(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@functools.cache
def images() -> Tensor:
    """Digits in 28x28; noise where the package that has them is missing."""
    try:
        found: Tensor = datasets.load("mnist5k").batch(256).inputs
    except ImportError:
        found = batch(256, 1, 28, 28)
    return found


def conv_net() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 8, 3, groups=2), nn.ReLU(), nn.Flatten()),
        *(parametrizations.weight_norm(nn.Linear(8 * 25, 16)), nn.Tanh(), nn.Linear(16, 4)),
    )


class Sequences(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(40, 16)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.lstm = nn.LSTM(16, 8, batch_first=True)
        self.head = nn.Linear(8, 40)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        h = h + self.attention(h, h, h)[0]
        logits: Tensor = self.head(self.lstm(h)[0])
        return logits


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "conv": (conv_net, lambda: batch(16, 3, 9, 9)),
    "sequences": (Sequences, lambda: torch.arange(16 * 12).view(16, 12) % 40),
    "transposed": (
        lambda: nn.Sequential(nn.ConvTranspose2d(4, 6, 3, groups=2), nn.ELU(), nn.Conv2d(6, 3, 3)),
        lambda: batch(8, 4, 6, 6),
    ),
    "no batch dimension": (lambda: nn.Conv2d(3, 4, 3), lambda: batch(3, 12, 12)),
    "double": (
        lambda: nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3)).double(),
        lambda: batch(64, 8).double(),
    ),
}


def outputs(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Of plain layers, as samples x channels, by an independent pass."""
    found: dict[str, Tensor] = {}

    def visit(call: Any) -> None:
        if call.kind in ("linear", "conv") and call.tensor is not None:
            dim = 1 if call.kind == "conv" else -1
            found[call.name] = call.tensor.movedim(dim, -1).flatten(0, -2).double().clone()

    walk(model, x, visit)
    return found


# ---- the promises --------------------------------------------------------------------------------


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("name", MODELS)
def test_the_distance_falls_on_every_layer_that_is_changed(name: str, distance: str) -> None:
    make, data = MODELS[name]
    model, x = make(), data()
    report = pyinit.consistency_aware_(
        model, x, base=NORMAL, distance=distance, candidates=2, refine=2, seed=1
    )
    assert len(report)
    assert all(row.after < row.before for row in report), str(report)
    assert report.distance_after < report.distance_before


@pytest.mark.parametrize("distance", DISTANCES)
def test_what_is_reported_is_what_an_independent_pass_finds(distance: str) -> None:
    make = lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 5))
    model, base, x = make(), make(), batch(64, 3, 5, 5)
    report = pyinit.consistency_aware_(model, x, base="kaiming", distance=distance, seed=0)
    pyinit.initialize_(base, "kaiming", seed=0)
    measure = distances.DISTANCES[distance]
    before, after = (
        {k: float(measure(v)) for k, v in outputs(m, x).items()} for m in (base, model)
    )
    assert {row.name: row.after for row in report} == pytest.approx(after, rel=1e-5)
    assert report[0].before == pytest.approx(before["0"], rel=1e-5)
    assert report.distance_before == pytest.approx(sum(before.values()), rel=1e-5)
    assert report.distance_after == pytest.approx(sum(after.values()), rel=1e-5)
    wide = list(outputs(model, x).values())
    assert report.mean_after == pytest.approx(sum(map(torch.mean, wide)).item() / 2, abs=1e-6)
    assert report.variance_after == pytest.approx(
        sum(each.var(correction=0) for each in wide).item() / 2, rel=1e-5
    )
    total = model[0](x).flatten(1).var(0, correction=0).sum() + model(x).var(0, correction=0).sum()
    assert report.total_variance_after == pytest.approx(total.item() / 2, rel=1e-4)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("refine", [0, 4])
@pytest.mark.parametrize("make", [lambda: nn.Linear(12, 6), lambda: nn.Conv2d(3, 4, 2, bias=False)])
def test_for_one_input_it_falls_with_the_number_of_candidates(
    make: Callable[[], nn.Module], refine: int, distance: str
) -> None:
    x = batch(64, 12) if isinstance(make(), nn.Linear) else batch(8, 3, 6, 6)
    x = x.exp() - 1
    rows = [
        pyinit.consistency_aware_(
            make(), x, distance=distance, candidates=count, refine=refine, seed=2, tolerance=0
        )[0]
        for count in (1, 2, 4, 8, 16)
    ]
    afters = [row.after for row in rows]
    assert all(many <= few * (1 + 1e-6) for few, many in pairwise(afters))  # but for rounding
    assert afters[-1] < afters[0]
    assert [row.tried for row in rows] == [1, 2, 4, 8, 16]
    for few, many in pairwise(rows):  # nested: the same draw, or a further one
        assert many.candidate == few.candidate or many.candidate >= few.tried


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("candidates", [1, 4])
def test_on_lenet_the_part_of_means_and_variances_falls_by_1000(seed: int, candidates: int) -> None:
    model = build("lenet5")
    report = pyinit.consistency_aware_(
        model, images(), base=NORMAL, seed=seed, candidates=candidates
    )
    assert [row.name for row in report] == ["conv1", "conv2", "fc1", "fc2", "fc3"]
    assert report.mean_and_variance_after * 1000 <= report.mean_and_variance_before
    assert report.distance_after <= report.distance_before
    for values in outputs(model, images()).values():
        torch.testing.assert_close(
            values.mean(0), torch.zeros(values.shape[1]).double(), rtol=0, atol=1e-4
        )
        torch.testing.assert_close(
            values.var(0), torch.ones(values.shape[1]).double(), rtol=0.005, atol=0
        )


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("through", ["memory", "a file"])
def test_a_replay_gives_the_same_bits_without_data(name: str, through: str, tmp_path: Any) -> None:
    make, data = MODELS[name]
    model = make()
    report = pyinit.consistency_aware_(model, data(), candidates=3, refine=3, seed=4)
    if through == "a file":
        report.save(tmp_path / "found.json")
        loaded = pyinit.ConsistencyReport.load(tmp_path / "found.json")
        assert loaded == report
        report = loaded
    again = make()
    pyinit.replay_(again, report)
    state = again.state_dict()
    assert all(torch.equal(each, state[key]) for key, each in model.state_dict().items())


def peak(function: Callable[[], object]) -> int:
    """The most bytes of tensors that a function had at once, beyond those before."""
    with torch.profiler.profile(profile_memory=True) as profile:
        function()
    sizes, events = [], list(profile.profiler.kineto_results.experimental_event_tree())
    while events:
        event = events.pop()
        events.extend(event.children)
        if hasattr(event.extra_fields, "alloc_size"):
            sizes.append((event.start_time_ns, event.extra_fields.alloc_size))
    return max(accumulate(size for _, size in sorted(sizes)))


@pytest.mark.parametrize("distance", DISTANCES)
def test_beyond_the_forward_pass_it_needs_a_copy_of_the_weights_and_the_largest_layer(
    distance: str,
) -> None:
    model = nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(8), nn.Flatten(), nn.Linear(32 * 64, 256)),
    )
    x = batch(8, 3, 64, 64)
    with torch.no_grad():
        forward = peak(lambda: model(x))
    found = peak(
        lambda: pyinit.consistency_aware_(model, x, distance=distance, candidates=3, tolerance=0)
    )
    weights = sum(each.nbytes for each in model.parameters())
    largest = 4 * 8 * (16 + 32) * 64**2 + model[6].weight.nbytes
    assert forward >= 4 * 8 * 32 * 64**2
    assert found - forward <= weights + largest, (found, forward)


# ---- targets -------------------------------------------------------------------------------------


@pytest.mark.parametrize("distance", DISTANCES)
def test_a_reference_model_of_the_same_weights_is_reached(distance: str) -> None:
    make = lambda: nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 3))
    reference, x = make(), batch(128, 8)
    nn.init.constant_(reference[0].bias, 0.7)
    reference.requires_grad_(False)
    before = copy.deepcopy(reference.state_dict())
    model = make()
    model.load_state_dict(reference.state_dict())
    with torch.no_grad():
        model[0].weight.mul_(3)
        model[0].bias.sub_(2)
        model[2].bias.add_(1)
    report = pyinit.consistency_aware_(
        model, x, target=reference, base=None, distance=distance, tolerance=1e-5
    )
    # They differ by scales and shifts alone, so what is corrected is what was changed.
    for name, value in reference.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=1e-4, atol=1e-5)
        assert torch.equal(value, before[name])
    assert [row.name for row in report] == ["0", "2"]
    assert report.distance_after < 1e-3 < report.distance_before


def test_a_reference_model_sets_goals_for_projections_and_gates() -> None:
    reference, model = Sequences(), Sequences()
    x = torch.arange(16 * 12).view(16, 12) % 40
    report = pyinit.consistency_aware_(model, x, target=reference, base=NORMAL, seed=0)
    names = {row.name for row in report}
    assert {"embed", "lstm.weight_ih_l0 forget", "head"} <= names
    assert any(name.endswith("key") for name in names)
    assert report.mean_and_variance_after < report.mean_and_variance_before / 10


@pytest.mark.parametrize("distance", ["moments", "wasserstein1"])
@pytest.mark.parametrize("shape", [(500,), (500, 1)])
def test_samples_of_one_dimension_are_for_each_channel(shape: Any, distance: str) -> None:
    samples = 3 * batch(*shape) + 2
    model, x = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3)), batch(400, 8)
    report = pyinit.consistency_aware_(model, x, target=samples, distance=distance, seed=0)
    assert len(report) == 2
    for values in outputs(model, x).values():
        torch.testing.assert_close(
            values.mean(0), samples.mean().double().expand(values.shape[1]), rtol=1e-4, atol=1e-4
        )
        std = samples.std(correction=0).double().expand(values.shape[1])
        torch.testing.assert_close(values.std(0, correction=0), std, rtol=1e-4, atol=1e-4)
    assert report.init.method.startswith("consistency_aware(target='samples'")


def test_samples_by_name_change_the_layers_that_they_name() -> None:
    model, x = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3)), batch(64, 8)
    report = pyinit.consistency_aware_(
        model, x, target={"2": batch(100, 3) * torch.tensor([1.0, 2.0, 3.0])}, distance="mmd"
    )
    assert [row.name for row in report] == ["2"]
    assert dict(report.left)["0"] == "the target has nothing for it"


# ---- what is kept, and what is left --------------------------------------------------------------


def test_a_layer_within_the_tolerance_is_left_and_further_candidates_are_not_drawn() -> None:
    x = batch(256, 8)
    first = pyinit.consistency_aware_(nn.Linear(8, 6), x, seed=5)
    assert first[0].after < 0.5 < first[0].before
    some = pyinit.consistency_aware_(nn.Linear(8, 6), x, seed=5, candidates=9, tolerance=0.5)
    assert (some[0].tried, some[0].after) == (1, first[0].after)
    model = nn.Linear(8, 6)
    none = pyinit.consistency_aware_(model, x, seed=5, candidates=9, tolerance=10)
    assert "is within the tolerance" in dict(none.left)[""]
    base = nn.Linear(8, 6)
    pyinit.initialize_(base, seed=5)
    assert torch.equal(model.weight, base.weight)


def test_refinement_lowers_the_distance_that_moments_do_not() -> None:
    x = batch(2000, 4).pow(3)  # tails, for which the standard deviation is no good scale
    make = lambda: nn.Linear(4, 3)
    rows = [
        pyinit.consistency_aware_(make(), x, distance="wasserstein1", refine=steps, seed=0)[0]
        for steps in (0, 1, 10)
    ]
    assert rows[2].after < 0.95 * rows[0].after
    assert rows[2].after <= rows[1].after <= rows[0].after


def test_without_a_bias_scales_alone_are_kept_if_the_distance_falls() -> None:
    # Means much greater than the spread: a variance of 1 would make them greater.
    x = 1 + 0.1 * batch(256, 8)
    model, base = nn.Linear(8, 6, bias=False), nn.Linear(8, 6, bias=False)
    report = pyinit.consistency_aware_(model, x, base="kaiming", seed=0)
    assert len(report) == 0
    assert "does not fall" in dict(report.left)[""]
    pyinit.initialize_(base, "kaiming", seed=0)
    assert torch.equal(model.weight, base.weight)
    refined = pyinit.consistency_aware_(model, x, base="kaiming", seed=0, refine=10)
    assert refined[0].after < refined[0].before
    drawn = pyinit.consistency_aware_(model, x, base="kaiming", seed=0, candidates=16)
    assert drawn[0].candidate > 0
    assert drawn[0].after < drawn[0].before


def test_a_candidate_that_was_tried_in_vain_leaves_no_trace() -> None:
    layer, base = nn.Linear(8, 6), nn.Linear(8, 6)
    layer.register_forward_hook(
        lambda *called: torch.sigmoid(called[-1].sum(1, keepdim=True) * 0 + called[1][0][:, :6])
    )
    report = pyinit.consistency_aware_(layer, batch(64, 8), candidates=4, seed=0)
    assert "does not fall" in dict(report.left)[""]
    pyinit.initialize_(base, seed=0)
    assert torch.equal(layer.weight, base.weight)
    again = nn.Linear(8, 6)
    pyinit.replay_(again, report)
    assert torch.equal(again.weight, base.weight)


@pytest.mark.parametrize("part", ["layer", "channel"])
def test_what_has_no_variance_is_not_scaled(part: str) -> None:
    model, x = nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 3)), batch(64, 8)
    with torch.no_grad():
        model[0].bias.fill_(0.3)
        model[0].weight[2 if part == "channel" else slice(None)] = 0
    weight = model[0].weight.clone()
    report = pyinit.consistency_aware_(model, x, base=None)
    if part == "layer":
        assert dict(report.left)["0"] == "its output has no variance"
        assert torch.equal(model[0].weight, weight)
        return
    assert report[0].after < report[0].before
    assert torch.equal(model[0].weight[2], weight[2])
    assert abs(model[0].bias[2].item()) < 1e-6


def test_a_frozen_bias_stays_and_is_reckoned_with() -> None:
    model, x = nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 3)), batch(256, 8)
    nn.init.normal_(model[0].bias, std=0.5, generator=torch.Generator().manual_seed(0))
    model[0].bias.requires_grad_(False)
    bias = model[0].bias.clone()
    report = pyinit.consistency_aware_(model, x, base=None, seed=0)
    assert torch.equal(model[0].bias, bias)
    found = outputs(model, x)
    torch.testing.assert_close(
        found["0"].var(0, correction=0), torch.ones(6).double(), rtol=0, atol=1e-5
    )
    assert report.of("0").after == pytest.approx(float(distances.moments(found["0"])), rel=1e-4)
    assert report.of("1").after == pytest.approx(float(distances.moments(found["1"])), rel=1e-4)


def test_an_output_that_overflows_is_left() -> None:
    model = nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 3))
    with torch.no_grad():
        model[0].weight.fill_(3e38)
    report = pyinit.consistency_aware_(model, batch(64, 8).abs() + 1, base=None)
    assert dict(report.left)["0"] == "its output is not finite"
    assert report.distance_before == math.inf


def test_bfloat16_is_measured_in_float32() -> None:
    make = lambda: nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 8)).bfloat16()
    model, x = make(), batch(256, 16).bfloat16()
    report = pyinit.consistency_aware_(model, x, base=NORMAL, candidates=2, seed=0)
    assert report.mean_and_variance_after < 0.001
    again = make()
    pyinit.replay_(again, report)
    assert torch.equal(again[2].weight, model[2].weight)


def test_frozen_layers_count_in_the_totals_and_stay() -> None:
    model, x = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4)), batch(64, 8)
    model[1].requires_grad_(False)
    before = copy.deepcopy(model[1].state_dict())
    report = pyinit.consistency_aware_(model, x, seed=0)
    assert [row.name for row in report] == ["0"]
    assert all(torch.equal(each, before[key]) for key, each in model[1].state_dict().items())
    both = sum(float(distances.moments(each)) for each in outputs(model, x).values())
    assert report.distance_after == pytest.approx(both, rel=1e-5)


def test_candidates_do_not_depend_on_the_layers_before() -> None:
    x, rows = batch(64, 8), []
    for layers in (None, "1"):
        model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4))
        pyinit.consistency_aware_(model, x, candidates=5, seed=0, layers=layers, tolerance=0)
        rows.append(model[1].weight)
    directions = [each / each.norm(dim=1, keepdim=True) for each in rows]
    drawn = []
    for candidate in range(5):
        report = pyinit.initialize_(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4)), seed=0)
        moved = [
            row._replace(stream=row.stream + candidate) if row.name == "1.weight" else row
            for row in report
        ]
        again = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4))
        pyinit.replay_(again, type(report)(**{**vars(report), "rows": moved}))
        drawn.append(again[1].weight / again[1].weight.norm(dim=1, keepdim=True))
    for found in directions:
        assert any(torch.allclose(found, each, atol=1e-6) for each in drawn)


def test_it_runs_by_name_from_a_recipe_file(tmp_path: Any) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('recipe = "kaiming"\nafter = {name = "consistency_aware", candidates = 2}\n')
    model, x = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3)), batch(64, 8)
    report = pyinit.initialize_(model, path, seed=0, data=x)
    assert report.method == "consistency_aware(candidates=2)"
    other = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))
    pyinit.consistency_aware_(other, x, base="kaiming", candidates=2, seed=0)
    assert torch.equal(model[2].weight, other[2].weight)


def test_the_last_line_says_what_the_network_gained() -> None:
    report = pyinit.consistency_aware_(nn.Linear(8, 6), batch(64, 8), base=NORMAL, seed=0)
    assert report.summary.startswith("consistency_aware: 1 layer changed; distance ")
    for what in ("mean and variance", "mean ", "variance ", "total variance "):
        assert f", {what}" in report.summary
    assert "consistency_aware: 1 layer changed" in str(report)


# ---- bad input -----------------------------------------------------------------------------------

NAN = batch(16, 8)
NAN[3, 2] = math.nan

BAD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "no candidate": ({"candidates": 0}, ValueError, "candidates"),
    "a bool of candidates": ({"candidates": True}, ValueError, "candidates"),
    "nothing to draw from": (
        {"candidates": 2, "base": None},
        ValueError,
        "candidates=2.*base=None",
    ),
    "negative tolerance": ({"tolerance": -0.1}, ValueError, "tolerance"),
    "NaN as tolerance": ({"tolerance": math.nan}, ValueError, "tolerance"),
    "negative steps": ({"refine": -1}, ValueError, "refine"),
    "unknown distance": ({"distance": "wasserstein"}, ValueError, "did you mean wasserstein1"),
    "no distance": ({"distance": None}, ValueError, "unknown distance None"),
    "another width": (
        {"target": torch.randn(50, 3)},
        ValueError,
        "3 channels for 0, whose output has 8",
    ),
    "one channel together": (
        {"target": torch.randn(50), "distance": "mmd"},
        ValueError,
        "1 channels for 0",
    ),
    "another width by name": (
        {"target": {"1": torch.randn(50, 5)}},
        ValueError,
        "5 channels for 1.* 2",
    ),
    "unknown name": ({"target": {"2": torch.randn(50, 2)}}, ValueError, "'2', and no such layer"),
    "integers": ({"target": torch.arange(8)}, TypeError, "target must have real"),
    "no samples": ({"target": {"1": torch.ones(0, 2)}}, ValueError, r"target\['1'\]"),
    "NaN as target": ({"target": NAN}, ValueError, "target must be finite"),
    "a string": ({"target": "normal"}, TypeError, "target must be None"),
    "a model without such layers": (
        {"target": nn.Sequential(nn.ReLU())},
        ValueError,
        "target has nothing",
    ),
    "a wider model": ({"target": nn.Sequential(nn.Linear(8, 9))}, ValueError, "9 channels for 0"),
    "NaN": ({"data": NAN}, ValueError, "NaN"),
    "an empty iterator": ({"data": iter(())}, ValueError, "exhausted"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_by_name_and_the_model_unchanged(case: str) -> None:
    arguments, error, message = BAD[case]
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2))
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    with pytest.raises(error, match=message):
        pyinit.consistency_aware_(model, **{"data": batch(16, 8), "seed": 0, **arguments})
    assert all(torch.equal(each, before[key]) for key, each in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_the_model_is_no_target_of_itself() -> None:
    model = nn.Linear(8, 2)
    with pytest.raises(ValueError, match="another model"):
        pyinit.consistency_aware_(model, batch(16, 8), target=model)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("after", [2, 5, 9])
def test_whatever_is_raised_the_model_is_as_it_was(error: type[BaseException], after: int) -> None:
    model = conv_net()
    calls = []

    def interrupt(*_: Any) -> None:
        calls.append(1)
        if len(calls) == after:
            raise error

    model[8].register_forward_hook(interrupt)
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    with pytest.raises(error):
        pyinit.consistency_aware_(model, batch(16, 3, 9, 9), candidates=9, seed=0, tolerance=0)
    assert all(torch.equal(each, before[key]) for key, each in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
