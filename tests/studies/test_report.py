"""What a study's result tells: in a terminal, as a page, as tables, and as files."""

import builtins
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from browser import CHROMIUM, Browser, browser
from pages import assert_drawn, open_page

from pyinit.reports.page import Chart, Heat, Page, Section, Table, Text
from pyinit.studies import Claim, Study, StudyResult, Training
from pyinit.studies.models.deep import trainable_depth
from pyinit.studies.records import Record
from pyinit.studies.runs import runs_of

ARMS = {"xavier": "xavier", "he": "kaiming", "small": {"recipe": "normal"}}
ACCURACY = {"xavier": 0.9, "he": 0.8, "small": 0.1}  # of seed 0
GROWTH = {"xavier": 0.01, "he": 0.02, "small": 0.015}  # from seed to seed
EVIL = "<script>document.title='evil'</script>"


def study(**changes: Any) -> Study:
    fields: dict[str, Any] = {
        "model": "lenet5", "data": "digits", "arms": ARMS, "seeds": 3, "steps": 40, "name": "some",
    }  # fmt: skip
    return Study(**{**fields, **changes})


def record(arm: str, seed: int, factors: Any = None, **changes: Any) -> Record:
    """A run of 40 steps whose numbers follow from its arm and seed."""
    best = ACCURACY.get(arm, 0.5) + GROWTH.get(arm, 0.01) * seed
    layers = [
        {"step": step, "name": f"net.{i}", "place": i, "mean": 0.0, "variance": 0.5**i * (seed + 1),
         "total_variance": 1.0, "gradient_norm": 2.0**-i, "update_ratio": 1e-3 * (seed + 1),
         "dead": 0.1 * seed, "saturated": None}
        for step in (0, 1, 10, 39)
        for i in range(5)
    ]  # fmt: skip
    fields: dict[str, Any] = {
        "status": "finished",
        "steps": [{"step": step, "loss": 2.3 * 0.9**step + seed} for step in range(40)],
        "epochs": [
            {"epoch": e, "step": 20 * e, "train_loss": 1.0 / e, "test_loss": 1.1 / e + seed,
             "accuracy": best * e / 2, "seconds": 0.1}
            for e in (1, 2)
        ],
        "layers": layers,
        "seconds": 0.5,
        "versions": {"torch": "2.0"},
        **changes,
    }  # fmt: skip
    return Record(arm, seed, factors or {}, 0.01, **fields)


def result(of: Study | None = None, factors: Sequence[Any] = ({},)) -> StudyResult:
    of = of or study()
    records = [record(arm, s, each) for s in range(of.seeds) for each in factors for arm in of.arms]
    return StudyResult(of, tuple(records))


def diverged(arm: str, seed: int) -> Record:
    """A run that came as far as step 5, with a loss that leaves all bounds."""
    steps = [{"step": step, "loss": 10.0 ** (4 * step)} for step in range(5)]
    return record(
        arm, seed, status="diverged", steps=[*steps, {"step": 5, "loss": None}], epochs=[]
    )


def failed(arm: str, seed: int) -> Record:
    return Record(arm, seed, {}, 0.01, "failed", error=f"ValueError: {EVIL}")


def sections(page: Page) -> dict[str, Section]:
    return {each.title: each for each in page.sections}


def charts(page: Page) -> dict[str, Chart]:
    return {
        part.title: part for each in page.sections for part in each.parts if isinstance(part, Chart)
    }


def table(page: Page, title: str) -> Table:
    (found,) = (part for part in sections(page)[title].parts if isinstance(part, Table))
    return found


BETTER = Claim("accuracy", better="xavier", than="small", text="Xavier is better.")
WRONG = Claim("accuracy", better="small", than="he")
OPEN = Claim("test_loss", better="he", than="xavier")


# In words


def test_verdicts_come_first_on_the_page_and_in_the_terminal() -> None:
    found = result(study(claims=[BETTER, WRONG, OPEN]))
    first = found.page().sections[0]
    texts = [part for part in first.parts if isinstance(part, Text)]
    assert [each.head for each in texts] == [
        "Held: Xavier is better.",
        "Not held: small is better than he in accuracy.",
        "Undecided: he is better than xavier in test_loss.",
    ]
    assert texts[0].text.startswith(
        "xavier is better than small in accuracy: 0.910 against 0.115, a difference of 0.795 (95% interval"
    )
    assert texts[2].text.startswith("medians 1.55 against 1.55")  # the head says the same
    assert [each.outcome for each in found.verdicts] == ["held", "not held", "undecided"]
    shown = str(found)
    assert shown.index("Held: Xavier") < shown.index("arm  ")
    assert all(each.head in shown for each in texts)


def test_without_claims_no_arm_is_called_best_that_is_not_told_apart() -> None:
    alike = {"a": "xavier", "b": "kaiming"}
    shown = [each.head for each in result(study(arms=alike)).findings]
    assert shown == ["a and b are not told apart by their accuracy."]
    assert result().findings[0].head == "xavier has the best accuracy."
    (found,) = result(study(seeds=2)).findings
    assert found.head == "xavier, he and small are not told apart by their accuracy."
    assert found.text.endswith("Below 3 seeds nothing is tested.")
    (found,) = result(study(arms={f"arm {i}": "xavier" for i in range(9)})).findings
    assert found.head == "The 9 arms are not told apart by their accuracy."


def test_what_went_wrong_is_told_with_its_error() -> None:
    runs = [record("xavier", s) for s in range(3)] + [diverged("he", s) for s in range(3)]
    found = StudyResult(study(), (*runs, *(failed("small", s) for s in range(3))))
    assert "Of 9 runs, 3 diverged (he) and 3 failed (small)." in str(found)
    page = found.page()
    rows = table(page, "Runs that did not finish").rows
    assert [row[0] for row in rows] == ["he"] * 3 + ["small"] * 3
    assert rows[0][5] == 6
    assert EVIL in str(rows[-1][-1])
    assert EVIL not in page.html()
    assert page.html().count("&lt;script&gt;") == 3


def test_a_study_all_of_whose_runs_failed_is_told(tmp_path: Path) -> None:
    found = StudyResult(study(), tuple(failed(arm, s) for s in range(3) for arm in ARMS))
    assert "9 failed" in str(found)
    assert {path.name for path in found.write(tmp_path)} == {"report.html", "tidy.parquet"}


def test_the_learning_rate_that_served_an_arm_best_is_told() -> None:
    of = study(training=Training(lr=(0.01, 0.1)), arms={"xavier": "xavier"})
    good = [record("xavier", s) for s in range(3)]
    bad = [
        Record(**{**vars(each), "lr": 0.1, "epochs": [{**e, "accuracy": 0.1} for e in each.epochs]})
        for each in good
    ]
    found = StudyResult(of, (*good, *bad))
    assert found.compared == good
    assert found.findings[-1].text == "Tried were 0.01, 0.1: xavier by 0.01."
    numbers = table(found.page(), "Numbers in the end")
    assert [row[numbers.columns.index("lr")] for row in numbers.rows] == [0.01]


def test_many_learning_rates_are_counted() -> None:
    of = study(factors={"depth": (2, 4, 8)}, training=Training(lr=(0.01, 0.1)))
    records = [
        replace(record(arm, s, {"depth": d}), lr=lr, status=status)
        for s in range(3)
        for d in (2, 4, 8)
        for arm in ARMS
        for lr, status in ((0.01, "diverged" if d == 8 else "finished"), (0.1, "finished"))
    ]
    assert StudyResult(of, tuple(records)).findings[-1].text == (
        "Tried were 0.01, 0.1. Of 9 arms and combinations of factors, it is 0.01 for 6, 0.1 for 3; the table of "
        "numbers has each."
    )


def test_the_command_and_the_data_are_told() -> None:
    page = result().page("pyinit compare some.toml --seeds 3")
    assert "pyinit compare some.toml --seeds 3" in page.html()
    settings = dict(table(page, "How it was made").rows)
    assert settings["optimizer"] == "sgd"
    assert "1,438 samples to train on (digest" in str(settings["data"])
    assert table(page, "Versions").rows == [("torch", "2.0")]
    assert [row[0] for row in table(page, "Arms").rows] == list(ARMS)


# Numbers


def test_values_in_the_end_are_means_over_the_seeds_with_intervals() -> None:
    found = result()
    chart = charts(found.page())["Accuracy on test data in the end"]
    (mean, least, greatest) = chart.series
    assert list(chart.names) == list(ARMS)
    assert mean.y == pytest.approx([0.91, 0.82, 0.115])
    assert least.y == pytest.approx([0.9, 0.8, 0.1])
    assert greatest.y == pytest.approx([0.92, 0.84, 0.13])
    half = 4.302653 * 0.01 / math.sqrt(3)  # Student's t for 2 degrees of freedom at 97.5%
    assert mean.high[0] - mean.y[0] == pytest.approx(half, rel=1e-6)  # type: ignore[operator]
    rows = table(found.page(), "Numbers in the end").rows
    assert [row[0] for row in rows] == list(ARMS)
    assert rows[0][2].order == pytest.approx(0.91)  # type: ignore[union-attr]
    assert rows[0][2].text == "0.910 (0.885 to 0.935)"  # type: ignore[union-attr]


def test_curves_are_means_with_bands_over_the_seeds() -> None:
    found = charts(result().page())
    loss = found["Training loss"]
    assert list(loss.x) == list(range(40))
    assert loss.series[0].y == pytest.approx([2.3 * 0.9**step + 1 for step in range(40)])
    assert loss.series[0].low == pytest.approx([2.3 * 0.9**step for step in range(40)])
    assert loss.series[0].high == pytest.approx([2.3 * 0.9**step + 2 for step in range(40)])
    accuracy = found["Accuracy on test data"]
    assert list(accuracy.x) == [20, 40]
    assert accuracy.series[1].y == pytest.approx([0.41, 0.82])


def test_long_curves_are_means_over_windows_and_that_is_said() -> None:
    rows = [{"step": step, "loss": float(step)} for step in range(0, 6000, 12)]
    found = StudyResult(study(), tuple(record(a, s, steps=rows) for s in range(3) for a in ARMS))
    loss = charts(found.page())["Training loss"]
    assert len(loss.x) == 60
    assert loss.series[0].y[0] == fmean(range(0, 100, 12))
    assert "means over 100 steps" in str(sections(found.page())["Learning curves"].parts[0])


def test_one_seed_has_no_bands() -> None:
    for chart in charts(result(study(seeds=1)).page()).values():
        for series in chart.series:
            spans = zip(series.low, series.high, strict=True)
            assert all(low is None or low == high for low, high in spans)


def test_a_diverged_arm_leaves_the_others_readable() -> None:
    runs = [record("xavier", s) for s in range(3)] + [diverged("he", s) for s in range(3)]
    page = StudyResult(study(), tuple(runs)).page()
    loss = charts(page)["Training loss"]
    assert loss.series[1].y[0] == 1.0
    assert all(value == math.inf for value in loss.series[1].y[1:])
    assert all(math.isfinite(value) for value in loss.series[0].y)  # type: ignore[arg-type]
    assert "drawn as infinite" in str(sections(page)["Learning curves"].parts[0])


def test_depth_is_drawn_at_the_start_at_powers_of_ten_and_in_the_end() -> None:
    found = charts(result().page())
    variance = found["Variance at the start"]
    assert list(variance.names) == [f"net.{i}" for i in range(5)]
    assert variance.series[0].y == [0.5**i * 2 for i in range(5)]
    assert (variance.series[0].low, variance.series[0].high) == (
        [0.5**i for i in range(5)],
        [0.5**i * 3 for i in range(5)],
    )
    assert "Variance at step 39, the last" in found
    for step in (0, 1, 10, 39):
        gradient = found[f"Gradient norm at step {step}"]
        assert list(gradient.series[2].y) == [2.0**-i for i in range(5)]
    updates = found["Size of updates over that of weights"]
    assert list(updates.names) == ["0", "1", "10", "39"]
    assert updates.series[0].y == pytest.approx([2e-3] * 4)
    assert found["Share of dead channels"].series[0].y == pytest.approx([0.1] * 4)
    assert "Share of saturated values" not in found


DEPTHS = [{"depth": each} for each in (2, 4, 8, 16, 32, 64)]


def test_one_factor_is_an_axis_and_of_its_values_few_have_curves() -> None:
    of = study(factors={"depth": (2, 4, 8, 16, 32, 64)})
    page = result(of, DEPTHS).page()
    found = charts(page)
    by_depth = found["Accuracy on test data in the end, by depth"]
    assert list(by_depth.x) == [0, 1, 2, 3, 4, 5]  # as their logarithms lie
    assert list(by_depth.names) == ["2", "4", "8", "16", "32", "64"]
    assert [title for title in found if title.startswith("Training loss")] == [
        f"Training loss: depth = {depth}" for depth in (2, 8, 16, 64)
    ]
    told = "Shown are 4 of 6 combinations of factors, evenly chosen."
    assert told in str(sections(page)["Learning curves"].parts[0])
    (heat,) = (part for part in sections(page)["Grid"].parts if isinstance(part, Heat))
    assert (list(heat.rows), list(heat.columns)) == (list(ARMS), [str(d["depth"]) for d in DEPTHS])
    assert heat.values[1] == pytest.approx([0.82] * 6)


def test_two_factors_are_a_heat_map_for_each_arm() -> None:
    of = study(factors={"depth": (2, 4), "act": ("relu", "tanh", "elu")})
    combinations = [{"depth": d, "act": a} for d in (2, 4) for a in ("relu", "tanh", "elu")]
    page = result(of, combinations).page()
    heats = [part for part in sections(page)["Grid"].parts if isinstance(part, Heat)]
    assert [each.title for each in heats] == [
        f"Accuracy on test data in the end: {arm}" for arm in ARMS
    ]
    assert heats[0].rows == ["2", "4"]
    assert heats[0].columns == ["relu", "tanh", "elu"]
    assert heats[2].values == [pytest.approx([0.115] * 3)] * 2
    assert heats[2].span == pytest.approx((0.115, 0.91))
    assert len(result(of, combinations).statistics) == 6


def hundredfold(sigma: float) -> float:
    """A hundred times sigma."""
    return 100 * sigma if sigma < 0.5 else math.inf


def test_a_theory_is_a_line_over_the_heat_map() -> None:
    factors = {"sigma": (0.1, 0.2, 0.3, 0.7), "width": tuple(range(6)), "depth": (40, 10, 20)}
    of = study(factors=factors, theory={"depth": hundredfold})
    cells = [
        {"sigma": s, "width": w, "depth": d}
        for s in factors["sigma"]
        for w in factors["width"]
        for d in factors["depth"]
    ]
    page = result(of, cells).page()
    (text, *heats) = sections(page)["Grid"].parts
    assert "The line is theory's: a hundred times sigma." in str(text)
    for heat in heats:
        assert isinstance(heat, Heat)
        assert (heat.rows, heat.row_label) == (["10", "20", "40"], "depth")
        assert (heat.columns, heat.column_label) == (["0.1", "0.2", "0.3", "0.7"], "sigma")
        line = dict(heat.line)
        assert line[0.5] == pytest.approx(0.5)  # 10, in the middle of the first row
        assert line[1.0] == pytest.approx(1.0)  # 15, between the first and the second
        assert line[2.5] == pytest.approx(2.0)  # 30, between the second and the third
        assert line[3.5] == 3.0  # infinite: at the lower edge
    assert max(y for _, y in line.items()) == 3.0


def test_without_both_of_its_factors_a_theory_draws_nothing() -> None:
    of = study(factors={"sigma": (0.1,), "depth": (10, 20)}, theory={"depth": hundredfold})
    page = result(of, [{"sigma": 0.1, "depth": d} for d in (10, 20)]).page()
    assert all(not each.line for each in sections(page)["Grid"].parts if isinstance(each, Heat))


@pytest.mark.parametrize(
    ("theory", "message"),
    [
        ({"dept": hundredfold}, r"^theory\.dept: there is no such factor; did you mean depth"),
        ({"depth": "math:no_such"}, r"^theory\.depth: cannot import 'math:no_such'"),
        ({"depth": lambda width: width}, r"^theory\.depth: a function of width, not of another factor"),
        ({"sigma": lambda kind: 2 * kind}, r"^theory\.sigma: the factor kind has values that are no numbers"),
        ({"depth": 3}, r"^theory: must be a table of factors and functions"),
    ],
)  # fmt: skip
def test_a_theory_that_cannot_be_drawn_is_refused(theory: Any, message: str) -> None:
    factors = {"depth": (10, 20), "sigma": (0.1, 0.2), "kind": ("a", "b")}
    with pytest.raises(ValueError, match=message):
        study(factors=factors, theory=theory)


def test_a_theory_is_kept_in_a_file(tmp_path: Path) -> None:
    of = Study.load("trainable-depth")
    (tmp_path / "x.toml").write_text(replace(of, theory={"depth": trainable_depth}).to_toml())
    assert Study.load(tmp_path / "x.toml").theory == of.theory


def test_a_theory_does_not_make_runs_others() -> None:
    factors = {"lr": (0.01, 0.1), "momentum": (0.5, 0.9)}
    plain, drawn = (
        [run.fingerprint for run in runs_of(study(factors=factors, theory=theory))]
        for theory in ({}, {"lr": lambda momentum: 1 - momentum})
    )
    assert plain == drawn


def test_p_values_are_corrected_over_all_pairs_of_all_combinations() -> None:
    of = study(factors={"depth": (2, 4, 8, 16, 32, 64)})
    pairs = [
        pair
        for group in result(of, DEPTHS).statistics
        for pair in group.comparisons["accuracy"].differences
    ]
    assert {pair.tests for pair in pairs} == {18}


# Tables and files


def test_frames_have_a_row_for_each_run_epoch_step_or_layer() -> None:
    found = result()
    lengths = {"runs": 9, "epochs": 18, "steps": 360, "layers": 180}
    assert {rows: len(found.to_frame(rows)) for rows in lengths} == lengths
    assert len(found.to_frame("all")) == 18 + 360 + 180
    assert found.to_frame().equals(found.to_frame("epochs"))
    with pytest.raises(ValueError, match="rows must be one of runs, epochs, steps, layers or all"):
        found.to_records("layer")


def test_a_folder_has_the_page_tidy_data_and_pictures(tmp_path: Path) -> None:
    import pandas  # noqa: PLC0415

    of = study(factors={"depth": (2, "deep"), "batch_norm": (True, False)})
    factors = [{"depth": d, "batch_norm": b} for d in (2, "deep") for b in (True, False)]
    found = result(of, factors)
    written = found.write(tmp_path, "pyinit compare some")
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == {*written}
    for path in written[2:]:
        assert path.parent.name == "pictures"
        assert path.read_bytes().startswith(b"\x89PNG")
    assert "pyinit compare some" in written[0].read_text(encoding="utf-8")
    again = pandas.read_parquet(written[1])
    epochs = again[again["rows"] == "epochs"]
    assert list(epochs["accuracy"]) == list(found.to_frame()["accuracy"])
    assert list(epochs["batch_norm"]) == list(found.to_frame()["batch_norm"])
    assert set(epochs["depth"]) == {"2", "deep"}


def test_pictures_that_a_report_lacks_are_deleted_and_files_of_others_stay(tmp_path: Path) -> None:
    of = study(factors={"depth": (2, 4)})
    before = {path.name for path in result(of, [{"depth": d} for d in (2, 4)]).write(tmp_path)}
    pictures = tmp_path / "pictures"
    for name in ("mine.png", "grid.svg"):
        (pictures / name).touch()
    after = {path.name for path in result().write(tmp_path)}
    assert before - after == {"grid.png"}
    assert {path.name for path in pictures.iterdir()} == (
        after - {"report.html", "tidy.parquet"} | {"mine.png", "grid.svg"}
    )


def test_nothing_is_written_if_a_library_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib  # noqa: PLC0415

    real = importlib.import_module

    def fake(name: str, *rest: Any) -> Any:
        if name == "pyarrow":
            raise ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow")
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", fake)
    with pytest.raises(ImportError, match=r"pip install \"pyinit\[study\]\""):
        result().write(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_files_that_were_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = result()
    written = found.write(tmp_path)
    before = {path: path.read_bytes() for path in written}
    real = builtins.open

    def full(self: Any, path: Any, **_: Any) -> None:
        with real(path, "wb") as file:
            file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pandas.DataFrame.to_parquet", full)
    with pytest.raises(OSError, match="No space left"):
        found.write(tmp_path)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert files.keys() == before.keys()
    assert files[written[1]] == before[written[1]]


def test_json_has_verdicts_and_records(tmp_path: Path) -> None:
    found = result(study(claims=[BETTER]))
    found.save(tmp_path / "x.json")
    value = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    assert [each["outcome"] for each in value["verdicts"]] == ["held"]
    assert [Record.from_json(each) for each in value["records"]] == list(found.records)


def test_other_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must end in \.json or \.html"):
        result().save(tmp_path / "x.csv")


def test_plot_draws_each_picture_of_the_page() -> None:
    pytest.importorskip("matplotlib")
    found = result()
    titles = [each.get_title(loc="left") for each in found.plot().axes]
    assert titles == list(charts(found.page()))


def test_figures_say_what_their_bands_are() -> None:
    pytest.importorskip("matplotlib")
    written = [each.get_text() for axes in result().plot().axes for each in axes.texts]
    assert " ".join(written).count("95% intervals") == 1
    assert " ".join(written).count("bands from the least to the greatest") == 1


def test_the_printed_table_says_what_stands_in_brackets() -> None:
    assert "(and their 95% intervals by t)" in str(result())


def large() -> StudyResult:
    """180 combinations of two factors, and arms with long curves and 300 layers."""
    arms = {f"an initialization of number {i}": "xavier" for i in range(8)}
    of = study(arms=arms, seeds=2, factors={"depth": tuple(range(12)), "sigma": tuple(range(15))})
    rows = [{"step": step, "loss": 1.2345678 + step} for step in range(0, 5000, 10)]
    layers = [
        {"step": step, "name": f"model.layers.{i}.attention", "place": i, "mean": 0.123456789}
        | dict.fromkeys(
            ("variance", "gradient_norm", "update_ratio", "dead", "saturated"), 0.123456789
        )
        for step in (0, 1, 10, 100, 1000, 4999)
        for i in range(300)
    ]
    return StudyResult(
        of,
        tuple(
            record(arm, s, {"depth": d, "sigma": g}, steps=rows, layers=layers)
            for s in range(2)
            for d in range(12)
            for g in range(15)
            for arm in arms
        ),
    )


def test_the_page_of_a_large_study_is_below_five_megabytes() -> None:
    page = large().page()
    assert len(page.html().encode()) < 5_000_000
    assert len(table(page, "Differences").rows) == 3000
    assert "3,000 of 5,040 pairs" in str(sections(page)["Differences"].parts[0])


# In a browser


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no chromium")
    with browser() as tab:
        yield tab


def gone_wrong() -> StudyResult:
    runs = [record("xavier", s) for s in range(3)] + [diverged("he", s) for s in range(3)]
    return StudyResult(study(), (*runs, *(failed("small", s) for s in range(3))))


PAGES = {
    "claims": lambda: result(study(claims=[BETTER, WRONG, OPEN])),
    "factor": lambda: result(study(factors={"depth": (2, 4, 8, 16, 32, 64)}), DEPTHS),
    "grid": lambda: result(
        study(factors={"depth": (2, 4), "act": ("relu", "tanh")}),
        [{"depth": d, "act": a} for d in (2, 4) for a in ("relu", "tanh")],
    ),
    "theory": lambda: result(
        study(factors={"depth": (10, 20), "sigma": (0.1, 0.7)}, theory={"depth": hundredfold}),
        [{"depth": d, "sigma": s} for d in (10, 20) for s in (0.1, 0.7)],
    ),
    "one seed": lambda: result(study(seeds=1)),
    "gone wrong": gone_wrong,
}


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_drawn_whole(chromium: Browser, tmp_path: Path, name: str) -> None:
    tab = open_page(chromium, PAGES[name]().page("pyinit compare x"), tmp_path)
    for width in (390, 1280):
        for scheme in ("light", "dark"):
            assert_drawn(tab, width, scheme)


def test_verdicts_are_in_sight_on_a_phone(chromium: Browser, tmp_path: Path) -> None:
    page = PAGES["claims"]().page()
    tab = open_page(chromium, page, tmp_path)
    tab.show(390)
    assert tab.run("document.querySelector('section strong').getBoundingClientRect().top") < 800
    assert tab.run("document.querySelector('section strong').textContent").startswith("Held:")


def test_pages_are_printed(chromium: Browser, tmp_path: Path) -> None:
    tab = open_page(chromium, PAGES["grid"]().page(), tmp_path)
    assert len(tab.send("Page.printToPDF")["data"]) > 10_000
    assert tab.logged == []
