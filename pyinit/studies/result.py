"""What came of a study."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyinit._messages import needed
from pyinit.reports import table
from pyinit.reports.figure import figure
from pyinit.reports.files import check_output, replacing, write_html, write_json
from pyinit.reports.page import SUFFIXES, Page
from pyinit.reports.printed import Printed
from pyinit.studies.findings import Finding, findings_of
from pyinit.studies.judged import Judged
from pyinit.studies.metrics import METRICS
from pyinit.studies.page import page_of
from pyinit.studies.pictures import TITLES, Pictures, pictures_of
from pyinit.studies.records import Record
from pyinit.studies.summary import summary_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ROWS = ("runs", "epochs", "steps", "layers")
_ALL = "all"
_INSTALL = '"pyinit[study]"'


@dataclass(frozen=True, repr=False)
class StudyResult(Printed, Judged):
    """The records of a study, and what they say: ``Study.run`` gives it.

    Printed, it has the verdict in words, the values in the end with their intervals, and how arms differ.

    Args:
        study: the study
        records: one of each run, in the order of seeds, factors, arms and learning rates

    Example:
        >>> import pyinit
        >>> study = pyinit.Study("lenet5", "mnist5k", {"he": "kaiming", "xavier": "xavier"}, steps=300)
        >>> result = study.run()  # doctest: +SKIP
        >>> result.save("lenet5.html")  # doctest: +SKIP
    """

    @property
    def findings(self) -> list[Finding]:
        """What was found, in words: the verdicts first."""
        return findings_of(self)

    def to_records(self, rows: str = "epochs") -> list[dict[str, Any]]:
        """The numbers as a list of flat dictionaries.

        Args:
            rows: what there is a dictionary of: ``runs`` (with all metrics), ``epochs``, ``steps``,
                ``layers`` (of each recorded step), or ``all`` of the last three, told apart by ``rows``.
                Each has the arm, the seed, the factors, the learning rate and the status, too

        Raises:
            ValueError: for anything else.
        """
        if rows == _ALL:
            return [{"rows": kind, **row} for kind in _ROWS[1:] for row in self.to_records(kind)]
        if rows not in _ROWS:
            raise ValueError(f"rows must be one of {', '.join(_ROWS)} or {_ALL}, got {rows!r}")
        return [row for record in self.records for row in _rows(record, rows)]

    def to_frame(self, rows: str = "epochs") -> Any:
        """The same as a ``pandas.DataFrame``.

        Raises:
            ImportError: if pandas is not installed.
        """
        return table.frame(self.to_records(rows))

    def to_dict(self) -> dict[str, Any]:
        """The result as values that JSON has."""
        return {
            "name": self.study.name,
            "question": self.study.question,
            "verdicts": [
                {"claim": str(each.claim), "outcome": each.outcome, "p": each.p, "text": str(each)}
                for each in self.verdicts
            ],
            "records": [each.to_json() for each in self.records],
        }

    def page(self, command: str = "") -> Page:
        """The result as a page for a browser.

        Args:
            command: the command that made it, which the page tells
        """
        return page_of(self, command)

    def plot(self) -> "Figure":
        """The pictures of the page, by matplotlib. Over the first of a kind stands what its points and bands are.

        Returns:
            A ``matplotlib.figure.Figure``, which a notebook shows, and whose ``savefig`` writes it. It
            is none of pyplot's figures, and need not be closed.

        Raises:
            ImportError: if matplotlib is not installed.
        """
        return figure([picture for each in self._pictures for picture in each.noted])

    @property
    def _pictures(self) -> Sequence[Pictures]:
        return pictures_of(self.study, self.compared, self.statistics)

    def save(self, path: str | PathLike[str], command: str = "") -> None:
        """Write the result as a file, which is there whole or not at all.

        Args:
            path: the file's path; a file that is there is replaced. A name that ends in ``.html`` makes it a
                page for a browser, any other a JSON file
            command: the command that made the result, which the page tells

        Raises:
            ValueError: if the name has the suffix of another format.
            OSError: if the file cannot be written.
        """
        if check_output(Path(path), *SUFFIXES) == ".html":
            write_html(path, self.page(command).html())
        else:
            write_json(path, self.to_dict())

    def write(self, folder: str | PathLike[str], command: str = "") -> list[Path]:
        """Write all files that a study's folder holds beside its ``study.toml`` and ``runs.jsonl``: the
        page ``report.html``, all rows as ``tidy.parquet``, and the pictures as PNGs.

        Args:
            folder: the folder; files that are there are replaced, and pictures of an earlier report that this
                one lacks are deleted. Files of other names stay
            command: the command that made the result, which the page tells

        Returns:
            The paths of the files.

        Raises:
            ImportError: if matplotlib, pandas or pyarrow is not installed; then nothing is written.
            OSError: if a file cannot be written.
        """
        for module, library in (
            ("matplotlib", "matplotlib"),
            ("pandas", "pandas"),
            ("pyarrow", "pyarrow"),
        ):
            needed(module, "the report of a study", library, _INSTALL)
        folder = Path(folder)
        page, tidy, pictures = folder / "report.html", folder / "tidy.parquet", folder / "pictures"
        pictures.mkdir(parents=True, exist_ok=True)
        self.save(page, command)
        with replacing(tidy) as partial:
            _parquet(self.to_frame(_ALL)).to_parquet(partial, index=False)
        written = [page, tidy]
        made = {each.title: each.noted for each in self._pictures}
        for title in TITLES:
            path = pictures / f"{title.lower().replace(' ', '-')}.png"
            if title not in made:
                path.unlink(missing_ok=True)
                continue
            with replacing(path) as partial:
                figure(made[title]).savefig(partial, format="png", bbox_inches="tight")
            written.append(path)
        return written

    def __rich__(self) -> Any:
        return summary_of(self)


def _rows(record: Record, rows: str) -> Iterable[dict[str, Any]]:
    common = {
        "arm": record.arm,
        "seed": record.seed,
        **record.factors,
        "lr": record.lr,
        "status": record.status,
    }
    if rows == "runs":
        measured = {name: each(record) for name, each in METRICS.items()}
        return [{**common, "error": record.error, **measured}]
    return [{**common, **row} for row in getattr(record, rows)]


def _parquet(frame: Any) -> Any:
    """A frame whose columns have one type each: a factor of several types is written as text."""
    for name in frame.columns:
        values = frame[name].dropna()
        if len({str if isinstance(v, str) else type(v) for v in values.unique()}) > 1:
            frame[name] = frame[name].map(str, na_action="ignore")
    return frame
