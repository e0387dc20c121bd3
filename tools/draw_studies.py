"""Draws docs/studies/*.svg, and writes the verdicts in docs/studies.md, from pyinit's own studies when they have been run.

    python tools/draw_studies.py runs

The folder has one for each study, as ``pyinit compare NAME --out runs/NAME`` leaves it: of that the tool
reads ``runs.jsonl``, and the number of seeds in ``study.toml``. Nothing is written if a study or one of its
runs is missing.
"""

import argparse
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from io import BytesIO
from itertools import product
from pathlib import Path
from textwrap import wrap
from typing import Any

import matplotlib as mpl
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from schemes import FIELD, NAMED, SETTINGS, in_both_schemes

from pyinit.reports.figure import figure
from pyinit.reports.page import Chart, Heat, Picture
from pyinit.studies import Study, StudyResult
from pyinit.studies.comparisons import groups_of
from pyinit.studies.evidence import measure_of, runs_of
from pyinit.studies.metrics import cell, metric
from pyinit.studies.pictures import pictures_of
from pyinit.studies.records import Record, read_records
from pyinit.studies.statistics import estimate
from pyinit.studies.toml_files import presets
from pyinit.studies.verdicts import Outcome, Verdict
from pyinit.studies.wording import plain

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "studies.md"
PICTURES = ROOT / "docs" / "studies"


@dataclass(frozen=True)
class OfReport:
    """One of the report's pictures.

    title: what it is called there, without its combination of factors
    where: the factors' values in it
    called: what it is called on the page, if that is something shorter
    """

    title: str
    where: Mapping[str, Any] = field(default_factory=dict)
    called: str = ""

    def of(self, result: StudyResult) -> tuple[Picture, str]:
        """The picture, and what the reader must know of it."""
        study, kept = result.study, _where(result.compared, self.where)
        for each in pictures_of(study, kept, groups_of(study, kept)):
            for picture in each.pictures:
                if re.match(rf"{re.escape(self.title)}(: |, by |$)", picture.title):
                    return replace(picture, title=self.called or picture.title), each.text
        raise SystemExit(f"{study.name} has no picture {self.title!r}")


@dataclass(frozen=True)
class Fields:
    """A heat map whose rows are combinations of factors.

    metric: what it shows
    where: the values of factors that do not vary in it
    columns: a factor; without one, the arms
    """

    metric: str
    where: Mapping[str, Any] = field(default_factory=dict)
    columns: str = ""

    def of(self, result: StudyResult) -> tuple[Picture, str]:
        """The picture, and what the reader must know of it."""
        kept = _where(result.compared, self.where)
        fixed = {*self.where, self.columns}
        rows = [
            dict(pairs)
            for pairs in dict.fromkeys(
                tuple(_without(each.factors, fixed).items()) for each in kept
            )
        ]
        lone = next(iter(rows[0])) if len(rows[0]) == 1 else ""
        columns = (
            [
                ({self.columns: value}, arm)
                for value, arm in product(result.study.factors[self.columns], result.study.arms)
            ]
            if self.columns
            else [({}, arm) for arm in result.study.arms]
        )
        values = [
            [self._value(kept, arm, {**row, **more}) for more, arm in columns] for row in rows
        ]
        names = [_named(more) or arm for more, arm in columns]
        text = metric(self.metric).text
        title = text[0].upper() + text[1:]
        if self.where:
            title += f": {_named(self.where)}"
        told = "Means over the seeds."
        if measure_of(self.metric).worst == 0:
            told += " A run that diverged counts as 0."
        if measure_of(self.metric).more_is_better is False:
            told += " Less is better."
        side = lone
        labels = [plain(row[lone]) if lone else _named(row) for row in rows]
        if len(rows[0]) > 2:  # more lines than a row has room for
            side = ", ".join(rows[0])
            labels = ["; ".join(map(plain, row.values())) for row in rows]
        return Heat(title, labels, names, values, side, label=self.metric), told

    def _value(self, records: Iterable[Record], arm: str, where: Mapping[str, Any]) -> float | None:
        runs = runs_of(records, self.metric, where).get(arm)
        return None if runs is None else estimate(arm, runs, measure_of(self.metric)).mean


# The picture of each study, and how it is shown beside its verdicts.
SHOWN: Mapping[str, OfReport | Fields] = {
    "simple-cnn": OfReport("Training loss"),
    "lenet-consistency": OfReport("Accuracy on test data", {"data": "patches"}),
    "activation-grid": Fields("loss_area", {"depth": 16}),
    "printed-formulas": OfReport("Variance at the start", {"activation": "relu", "depth": 50}),
    "residual": Fields("accuracy"),
    "transfer": OfReport("Training loss"),
    "keras-cnn": OfReport("Training loss"),
    "mnist-cnn": OfReport("Training loss"),
    "consistency-ablation": Fields("accuracy", columns="batch_norm"),
    "coordinate-check": OfReport(
        "Decimal logarithm of the greatest root mean square of layers' outputs at the last "
        "recorded step",
        called="Size of the largest outputs after four updates (decimal logarithm)",
    ),
    "variance-by-depth": OfReport(
        "Variance at the start", {"network": "mlp", "activation": "relu"}
    ),
    "trainable-depth": OfReport("Accuracy on test data in the end: gaussian"),
    "isometry": OfReport("Training loss", {"depth": 128}),
    "no-norm-residual": Fields("accuracy"),
    "bad-start": Fields("accuracy"),
    "char-gpt": OfReport("Training loss"),
}


def _where(records: Iterable[Record], where: Mapping[str, Any]) -> list[Record]:
    return [each for each in records if where.items() <= each.factors.items()]


def _without(factors: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: value for name, value in factors.items() if name not in {*names}}


def _named(factors: Mapping[str, Any], but: Iterable[str] = ()) -> str:
    told = (f"{name} = {plain(value)}" for name, value in _without(factors, but).items())
    return ", ".join(told)


# ---- results -------------------------------------------------------------------------------------


def result_of(name: str, folder: Path) -> StudyResult:
    """What came of a preset, as it is now, in the runs of a folder."""
    if not (folder / "runs.jsonl").is_file():
        raise SystemExit(f"{name} is missing: there is no {folder / 'runs.jsonl'}")
    seeds = Study.load(folder / "study.toml").seeds
    study = replace(Study.load(name), seeds=seeds)
    found = {_key(each): each for each in read_records(folder / "runs.jsonl")}
    combinations = [
        dict(zip(study.factors, values, strict=True)) for values in product(*study.factors.values())
    ]
    wanted = [
        (arm, seed, cell(factors), lr)
        for seed, factors, arm, lr in product(
            range(seeds), combinations, study.arms, study.training.lrs
        )
    ]
    missing = [each for each in wanted if each not in found]
    if missing:
        raise SystemExit(f"{folder} lacks {len(missing)} of {len(wanted)} runs: {missing[0]}, ...")
    return StudyResult(study, tuple(found[each] for each in wanted))


def _key(record: Record) -> tuple[Any, ...]:
    return record.arm, record.seed, cell(record.factors), record.lr


# ---- pictures ------------------------------------------------------------------------------------

WIDTH = 5.2  # inches, in which letters are as large as those of the text around them on a phone
CHART, ROW, LINE = (
    2.9,
    0.44,
    0.25,
)  # heights, in inches: of a chart, of a heat map's row, of a line of text
LETTERS, LEGEND = 48, 56  # of a line of the title, and of the legend


def draw(picture: Picture) -> str:
    """A picture as SVG in the colours of reports, light or dark as the reader's page."""
    with mpl.rc_context(SETTINGS):
        drawn = figure([picture])
        _fit(drawn, picture)
        file = BytesIO()
        drawn.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return in_both_schemes(file.getvalue().decode())


def _fit(drawn: Figure, picture: Picture) -> None:
    """Make a picture as wide as it is shown, with the title above all of it and the legend below."""
    (axes,) = drawn.axes
    title = wrap(picture.title, LETTERS)
    if len(title) > 1:  # the combination of factors has lines of its own
        title = [line for part in picture.title.split(": ", 1) for line in wrap(part, LETTERS)]
    axes.set_title("", loc="left")
    drawn.suptitle("\n".join(title), x=0.02, ha="left", size="medium", weight="bold")
    height = CHART + LINE * len(title)
    if isinstance(picture, Heat):
        height = ROW * len(picture.rows) + LINE * (2 + len(title) + bool(picture.column_label))
        axes.set_yticks(axes.get_yticks(), [name.replace(", ", "\n") for name in picture.rows])
        axes.set_xticks(axes.get_xticks(), picture.columns)
        levels = [level for row in picture.levels for level in row]
        (mesh,) = (each for each in axes.collections if isinstance(each, QuadMesh))
        mesh.set(array=None, edgecolor=NAMED["ground"])
        fields = [f"{FIELD}{round(100 * (level or 0)):02x}" for level in levels]
        mesh.set_facecolor(fields)
        for number in axes.texts:
            number.set(color=NAMED["ground" if number.get_color() == "white" else "ink"])
            if (around := number.get_bbox_patch()) is not None:
                column, row = map(int, number.get_position())
                around.set_facecolor(fields[row * len(picture.columns) + column])
        for under in axes.lines[:1]:
            under.set(color=NAMED["ground"])
    else:
        axes.set_ylabel("")  # the title says it
    if (legend := axes.get_legend()) is not None:
        handles, labels = axes.get_legend_handles_labels()
        legend.remove()
        wide = [len(label) + 6 for label in labels]  # with its mark
        columns = len(labels) if sum(wide) <= LEGEND else max(1, LEGEND // max(wide))
        drawn.legend(
            handles,
            labels,
            loc="outside lower left",
            ncols=columns,
            frameon=False,
            fontsize="small",
        )
        height += LINE * math.ceil(len(labels) / columns)
    drawn.set_size_inches(WIDTH, height)


# ---- words ---------------------------------------------------------------------------------------

OUTCOMES: Mapping[Outcome, str] = {
    "held": "held",
    "not held": "**did not hold**",
    "undecided": "undecided",
}


def block(name: str, result: StudyResult, picture: Picture, told: str) -> str:
    """What the page has of a study."""
    title = picture.title[0].upper() + picture.title[1:]
    rows = "\n".join(map(row, result.verdicts))
    told = told.replace("the seeds", f"{result.study.seeds} seeds", 1)
    return (
        f'<img src="studies/{name}.svg" width="480" alt="{title}. {in_words(picture)}">\n\n'
        f"{title}. {told}\n\n"
        f"| claim ({result.study.seeds} seeds) | verdict | in numbers |\n|---|---|---|\n{rows}"
    )


def row(verdict: Verdict) -> str:
    """A line of the table of verdicts."""
    numbers = verdict.evidence.in_numbers(verdict.test, verdict.p, verdict.claims)
    rest = str(verdict).partition(f"{numbers}.")[2]
    numbers = numbers.replace(" after Holm's correction", "")
    claim = verdict.claim
    return f"| {claim.text} | {OUTCOMES[verdict.outcome]} | {claim}: {numbers}.{rest} |"


def in_words(picture: Picture) -> str:
    """What a picture shows, for those who do not see it."""
    if isinstance(picture, Heat):
        lines = zip(picture.rows, picture.values, strict=True)
        return "; ".join(
            f"{name}: {', '.join(f'{c} {_number(v)}' for c, v in zip(picture.columns, row, strict=True))}"
            for name, row in lines
        )
    assert isinstance(picture, Chart)
    ends = [(one.name, [y for y in one.y if y is not None]) for one in picture.series]
    return "From left to right: " + ", ".join(
        f"{name} from {_number(y[0])} to {_number(y[-1])}" for name, y in ends if y
    )


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.2g}"


def overview(results: Mapping[str, StudyResult]) -> str:
    """All studies with the numbers of their verdicts."""
    lines = ["| study | seeds | held | did not hold | undecided |", "|---|---|---|---|---|"]
    for name, result in results.items():
        found = [each.outcome for each in result.verdicts]
        counts = " | ".join(str(found.count(each) or "") for each in OUTCOMES)
        lines.append(f"| [`{name}`](#{name}) | {result.study.seeds} | {counts} |")
    return "\n".join(lines)


def put(page: str, name: str, text: str) -> str:
    """The page with a text between the marks of a name."""
    begin, end = f"<!-- {name}: written by tools/draw_studies.py -->", f"<!-- {name} -->"
    before, is_there, rest = page.partition(begin)
    _, ends, after = rest.partition(end)
    if not (is_there and ends):
        raise SystemExit(f"{PAGE} lacks {begin} or {end}")
    return f"{before}{begin}\n{text}\n\n{end}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="it has a folder for each study")
    parser.add_argument("--only", nargs="*", help="these studies alone, to try them; no overview")
    arguments = parser.parse_args()
    if presets().keys() != SHOWN.keys():
        raise SystemExit(f"SHOWN has other studies: {presets().keys() ^ SHOWN.keys()}")
    names = arguments.only or [*SHOWN]
    results = {name: result_of(name, arguments.folder / name) for name in names}
    page, drawn = PAGE.read_text(encoding="utf-8"), {}
    for name, result in results.items():
        picture, told = SHOWN[name].of(result)
        drawn[name] = draw(picture)
        page = put(page, name, block(name, result, picture, told))
    if not arguments.only:
        page = put(page, "overview", overview(results))
    PICTURES.mkdir(exist_ok=True)
    for name, text in drawn.items():
        (PICTURES / f"{name}.svg").write_text(text, encoding="utf-8")
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
