"""One rule: which parameters, and what fills them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pyinit._messages import near
from pyinit.initializers import Initializer, from_dict, make
from pyinit.whole_model.network import Network, Site
from pyinit.whole_model.rules.patterns import Matcher, Pattern, matcher, matcher_from_data


@contextmanager
def errors_in(where: str) -> Iterator[None]:
    """Puts ``where`` in front of errors; data nested too deeply is a ValueError, too."""
    try:
        yield
    except (TypeError, ValueError, RecursionError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{where}: {error}") from None


_PATTERN_KEYS = ("name", "regex", "type")
_KEYS = dict.fromkeys((*_PATTERN_KEYS, "parameter", "init", "optional", "fill_padding"))


@dataclass(frozen=True, init=False)
class Rule:
    """Parameters that match get the initializer.

    Args:
        match: a pattern as ``matcher`` takes it: a glob, a compiled regular expression, a class of
            modules, a function of the ``Site``, or a list of these
        initializer: an ``Initializer``, the name of a registered one, a dictionary of its name and
            arguments, or ``"keep"`` to leave the values as they are
        optional: whether it may match nothing
        parameter: the name that a parameter must have in its module, such as ``"weight"``;
            default any
        fill_padding: whether an embedding's row for padding (``padding_idx``) gets the
            initializer's values, too; by default it is zero, as with recipes

    Raises:
        TypeError: for a pattern or an initializer of another type.
        ValueError: for an unknown initializer, or arguments that it does not take.
    """

    match: Matcher
    initializer: Initializer
    optional: bool
    parameter: str | None
    fill_padding: bool

    def __init__(
        self,
        match: Pattern,
        initializer: Initializer | str | Mapping[str, Any],
        optional: bool = False,
        *,
        parameter: str | None = None,
        fill_padding: bool = False,
    ) -> None:
        fields = {
            "match": matcher(match),
            "initializer": as_initializer(initializer),
            "optional": optional,
            "parameter": parameter,
            "fill_padding": fill_padding,
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def matches(self, site: Site) -> bool:
        """Whether the rule is for that parameter."""
        return self.parameter in {None, site.leaf} and self.match(site)

    def near(self, network: Network) -> str:
        """What to say if the rule matches no parameter."""
        leaves = sorted({site.leaf for site in network.sites if self.match(site)})
        if leaves:
            return f"without {self.parameter!r} it would match {', '.join(leaves)}"
        return self.match.near(network)

    @property
    def pattern(self) -> str:
        """The pattern, short, for reports."""
        return f"{self.match} {self.parameter}" if self.parameter else str(self.match)

    def to_dict(self) -> dict[str, Any]:
        """The rule as values that JSON and TOML have.

        Raises:
            ValueError: for a predicate, or a list of patterns of several kinds.
        """
        data: dict[str, Any] = {self.match.key: self.match.data()}
        if self.parameter is not None:
            data["parameter"] = self.parameter
        data["init"] = self.initializer.to_dict()
        data |= {key: True for key in ("optional", "fill_padding") if getattr(self, key)}
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Rule":
        """A rule from its dictionary, the form that files have.

        Args:
            data: ``init``; one of ``name`` (glob), ``regex`` and ``type``, a string or a list of
                strings; if wanted ``parameter``, ``optional`` and ``fill_padding``. ``init`` is a dictionary of the
                initializer's name and arguments, or the name, with the arguments beside it.

        Raises:
            ValueError: for anything else.
        """
        keys = [key for key in _PATTERN_KEYS if key in data]
        if len(keys) != 1:
            what = f"both {' and '.join(keys)}" if keys else "none of them"
            raise ValueError(f"a rule takes one of name, regex and type, got {what}")
        return cls(
            matcher_from_data(keys[0], data[keys[0]]),
            _initializer(data),
            _typed(data, "optional", bool, False),
            parameter=_typed(data, "parameter", str, None),
            fill_padding=_typed(data, "fill_padding", bool, False),
        )

    def __str__(self) -> str:
        return f"{self.pattern} -> {self.initializer}"


def as_initializer(value: Initializer | str | Mapping[str, Any]) -> Initializer:
    """An initializer by itself, by its name, or by a dictionary of its name and arguments.

    Raises:
        TypeError: for anything else.
        ValueError: for an unknown one, or arguments that it does not take.
    """
    if isinstance(value, Initializer):
        return value
    if isinstance(value, str):
        return make(value)
    if isinstance(value, Mapping):
        return from_dict(value)
    raise TypeError(
        "an initializer must be an Initializer, the name of one, or a dictionary of its name and "
        f"arguments, got {value!r}"
    )


def _initializer(data: Mapping[str, Any]) -> Initializer:
    if "init" not in data:
        raise ValueError(f"a rule needs init, got only {', '.join(data)}")
    init = data["init"]
    beside = {key: value for key, value in data.items() if key not in _KEYS}
    if isinstance(init, str):
        try:
            return make(init, **beside)
        except ValueError as error:
            raise ValueError(
                f"{error} (a rule takes {', '.join(_KEYS)})" if beside else error
            ) from None
    for key in beside:
        raise ValueError(f"unknown key {key!r}; {near(key, _KEYS)}")
    if not isinstance(init, Mapping):
        raise ValueError(f"init must be a name or a table of name and arguments, got {init!r}")  # noqa: TRY004
    return from_dict(init)


def _typed(data: Mapping[str, Any], key: str, kind: type, default: Any) -> Any:
    value = data.get(key, default)
    if key in data and not isinstance(value, kind):
        raise ValueError(f"{key} must be {kind.__name__}, got {value!r}")
    return value
