"""A rule: which parameters are meant, and what fills them."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pyinit._messages import is_near, near
from pyinit.initializers import Initializer, from_dict, make
from pyinit.whole_model.network import Network, Site
from pyinit.whole_model.rules.patterns import Matcher, Pattern, matcher, matcher_from_data


@contextmanager
def errors_in(where: str) -> Iterator[None]:
    """Put ``where`` in front of the messages of errors; too deeply nested data is a ValueError."""
    try:
        yield
    except (TypeError, ValueError, RecursionError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{where}: {error}") from None


_PATTERN_KEYS = ("name", "regex", "type")
_KEYS = dict.fromkeys((*_PATTERN_KEYS, "parameter", "init", "optional", "fill_padding"))


@dataclass(frozen=True, init=False)
class Rule:
    """Parameters that match a pattern get an initializer.

    ``initialize_(model, rules=[...])`` takes a list of rules, of which the first that matches a
    parameter wins; a rule that matches no parameter at all is an error unless it is optional.

    Args:
        match: A glob over the whole qualified name (``*`` takes dots, too), a compiled regular
            expression that is searched for in the name, a class of modules, a function from
            ``Site`` to bool, or a list of these.
        initializer: An ``Initializer``, the name of a registered one, a dictionary of its name and
            arguments, or ``"keep"`` to leave the values as they are.
        optional: Whether the rule may match nothing.
        parameter: The name that a parameter must have in its module, such as ``"weight"``. None
            takes any.
        fill_padding: Whether an embedding's row for padding (``padding_idx``) gets the
            initializer's values, too. By default that row is zero, as with recipes.

    Raises:
        TypeError: For a pattern or an initializer of another type.
        ValueError: For an unknown initializer, or arguments that it does not take.

    Example:
        >>> import torch, pyinit
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 2))
        >>> rules = [
        ...     pyinit.Rule("1.*", {"name": "constant", "val": 0}),
        ...     pyinit.Rule(torch.nn.Linear, {"name": "normal", "std": 0.02}, parameter="weight"),
        ... ]
        >>> report = pyinit.initialize_(model, "torch", rules=rules, seed=1)
        >>> str(report["0.weight"].initializer), report["0.weight"].why
        ('normal(std=0.02)', 'rule 2: Linear weight')
        >>> str(report["1.weight"].initializer), report["1.weight"].why
        ('constant(val=0)', 'rule 1: 1.*')
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
        """Whether the rule means the parameter at this site."""
        return (self.parameter is None or self.parameter == site.leaf) and self.match(site)

    def near(self, network: Network) -> str:
        """A hint for the message if the rule matches no parameter: names that are near."""
        leaves = sorted({site.leaf for site in network.sites if self.match(site)})
        if leaves:
            return f"without {self.parameter!r} it would match {', '.join(leaves)}"
        return self.match.near(network)

    @property
    def pattern(self) -> str:
        """The pattern in short, for reports."""
        return f"{self.match} {self.parameter}" if self.parameter else str(self.match)

    def to_dict(self) -> dict[str, Any]:
        """The rule as values that JSON and TOML have; ``from_dict`` takes them back.

        Raises:
            ValueError: If the pattern is a function, or a list of patterns of several kinds.
        """
        data: dict[str, Any] = {self.match.key: self.match.data()}
        if self.parameter is not None:
            data["parameter"] = self.parameter
        data["init"] = self.initializer.to_dict()
        data |= {key: True for key in ("optional", "fill_padding") if getattr(self, key)}
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Rule":
        """Make a rule from a dictionary, the form that rules have in files.

        Args:
            data: The pattern under ``name`` (a glob), ``regex`` or ``type``, as a string or a list
                of strings; the initializer under ``init``, as a dictionary of its name and
                arguments, or as its name with the arguments beside it; and, if they are wanted,
                ``parameter``, ``optional`` and ``fill_padding``.

        Raises:
            ValueError: For anything else.

        Example:
            >>> import pyinit
            >>> print(pyinit.Rule.from_dict({"type": "torch.nn.Linear", "init": "normal", "std": 0.02}))
            torch.nn.Linear -> normal(std=0.02)
        """
        keys = [key for key in _PATTERN_KEYS if key in data]
        if len(keys) != 1:
            if not keys:
                _refuse_misspelt(data, _PATTERN_KEYS)
            what = f"only {', '.join(data)}" if data else "none of them"
            if keys:
                what = f"both {' and '.join(keys)}"
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
    """The initializer that is given itself, by its name, or by a dictionary with its arguments.

    Raises:
        TypeError: For anything else.
        ValueError: For an unknown initializer, or arguments that it does not take.
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
        _refuse_misspelt(data, ["init"])
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


def _refuse_misspelt(data: Mapping[str, Any], wanted: Collection[str]) -> None:
    """Refuse a key that is like one of those that are wanted, none of which is there."""
    for key in data:
        if key not in _KEYS and is_near(key, wanted):
            raise ValueError(f"unknown key {key!r}; {near(key, wanted)}")


def _typed(data: Mapping[str, Any], key: str, kind: type, default: Any) -> Any:
    value = data.get(key, default)
    if key in data and not isinstance(value, kind):
        raise ValueError(f"{key} must be {kind.__name__}, got {value!r}")
    return value
