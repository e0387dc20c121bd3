"""What the pictures of a method's report show: values alone, which a page and matplotlib draw."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pyinit.reports.page import Chart, Number, Series, evenly

_PLACES = 500  # of a line, at most
_BEFORE, _AFTER = "before", "after"


class About(NamedTuple):
    """What a reader of a picture must know of a number.

    what: what it is, in a few words
    goal: what it should be; None if there is no such value
    """

    what: str
    goal: float | None = None


FACTOR = About("factor on the weights", 1.0)


def paired(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Names by what they are of: ``std_before`` and ``std_after`` are of ``std``.

    Example:
        >>> paired(["before", "after", "std_before", "std_after", "scale"])
        {'': ('before', 'after'), 'std': ('std_before', 'std_after'), 'scale': ('scale',)}
    """
    found: dict[str, tuple[str, ...]] = {}
    for name in names:
        stem = name.removesuffix(_BEFORE).removesuffix(_AFTER)
        pair = (stem + _BEFORE, stem + _AFTER)
        is_paired = stem != name and {*pair} <= {*names}
        found[stem.rstrip("_") if is_paired else name] = pair if is_paired else (name,)
    return found


def pictures(
    names: Sequence[str], records: Sequence[Mapping[str, Any]], about: Mapping[str, About]
) -> Iterator[Chart]:
    """A picture of each number that layers have, before and after if there is both.

    Args:
        names: the layers' names
        records: their values by name; those that are no floats have no picture
        about: what the values are, by what ``paired`` calls them
    """
    shown = evenly(len(names), _PLACES)
    thin = f"{len(shown):,} of {len(names):,}, evenly." if len(shown) < len(names) else ""
    for of, columns in paired(list(records[0]) if records else ()).items():
        lines = {name: [record[name] for record in records] for name in columns}
        values = [value for line in lines.values() for value in line if value is not None]
        what, goal = about.get(of, About(of.replace("_", " ") or "before and after"))
        if not all(isinstance(value, float) for value in values) or {*values} <= {goal}:
            continue
        yield Chart(
            f"{what[0].upper()}{what[1:]}",
            x=[place + 1 for place in shown],
            series=[
                Series(_called(name, of), [_number(line[place]) for place in shown])
                for name, line in lines.items()
            ],
            x_label="layer, from the first to the last",
            y_label=of.replace("_", " ") or "value",
            log=not any(value < 0 for value in values),
            names=[names[place] for place in shown],
            reference=goal,
            note=thin,
        )


def _called(name: str, of: str) -> str:
    return name.removeprefix(of).lstrip("_") or name


def _number(value: Any) -> Number:
    number: Number = value
    return number
