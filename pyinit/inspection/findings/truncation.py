"""Truncated normals with bounds that do not cut, or that cut everything."""

from collections.abc import Iterator

from pyinit.inspection.findings.finding import Found, kind
from pyinit.inspection.subject import Item, Subject
from pyinit.inspection.tensors import described

_NEVER = 6.0  # standard deviations beyond which a bound cuts nothing
_ALL = 0.25  # of a standard deviation: an interval so narrow leaves a uniform distribution
_PILE = 0.02  # share of the elements at the bounds, where values were clamped


@kind("PI107", "truncation that cuts nothing or everything", is_informational=True)
def truncation(subject: Subject) -> Iterator[Found]:
    """A truncated normal whose bounds lie beyond six standard deviations, or so near that nothing of the
    normal distribution is left.

    The bounds of `nn.init.trunc_normal_` are values, not numbers of standard deviations: with `std=0.02`
    its defaults of -2 and 2 cut nothing. Calls are seen while a factory or `init` runs; in
    values alone only those that were clamped can be seen, by how many lie at the least and the greatest.
    It is for information, because an untruncated normal starts training as well.

    ```python
    import pyinit
    from torch import nn

    def init(model):
        nn.init.trunc_normal_(model.weight, std=0.02)
        nn.init.zeros_(model.bias)

    findings = pyinit.check(nn.Linear(64, 64), init)
    ```

    Give the bounds in standard deviations:

    ```python
    import pyinit
    from torch import nn

    def init(model):
        nn.init.trunc_normal_(model.weight, std=0.02, a=-0.04, b=0.04)
        nn.init.zeros_(model.bias)

    findings = pyinit.check(nn.Linear(64, 64), init)
    ```
    """
    for name, mean, std, a, b in subject.truncations:
        call = f"trunc_normal_(mean={mean:g}, std={std:g}, a={a:g}, b={b:g})"
        if std > 0 and a <= mean - _NEVER * std and b >= mean + _NEVER * std:
            yield (
                name,
                f"{call} cuts nothing",
                f"bounds within {_NEVER:g} standard deviations, as a={mean - 2 * std:g}, b={mean + 2 * std:g}",
                "a and b are values, not numbers of standard deviations",
                "certain",
            )
        elif b - a < _ALL * std or a > mean + _NEVER * std or b < mean - _NEVER * std:
            yield (
                name,
                f"{call} cuts everything but a uniform rest",
                "bounds of a standard deviation or more",
                "a and b are values, not numbers of standard deviations",
                "certain",
            )
    for item in subject.items:
        share = _at_bounds(item)
        if share > _PILE:
            yield (
                item.name,
                f"{share:.0%} of the elements are at the least or the greatest value",
                "few at the bounds",
                "values that were clamped pile up there",
                "possible",
            )


def _at_bounds(item: Item) -> float:
    """The share of elements that are the least or the greatest."""
    one = item.statistics
    if one is None or not item.looks_drawn or not item.is_matrix or one.count < 1000:
        return 0.0
    # A clamped normal has short tails; to count is to read all of it again.
    if not one.kurtosis < -0.4 or one.max > 2.5 * one.std:
        return 0.0
    again = described([item.tensor], [(one.min, one.max)])[0]
    return 0.0 if again is None else (again.low + again.high) / one.count
