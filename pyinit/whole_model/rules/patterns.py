"""Patterns: which parameters are meant, by name, type of module or predicate."""

import difflib
import fnmatch
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

from torch import nn

from pyinit.whole_model.network import Network, Site

Pattern: TypeAlias = (
    "str | re.Pattern[str] | type[nn.Module] | Callable[[Site], bool] | Sequence[Pattern]"
)


class Matcher:
    """A pattern in the form in which it is used: it says of each parameter whether it is meant.

    key: the key under which a file has its data
    """

    key: ClassVar[str] = ""

    def __call__(self, site: Site) -> bool:
        raise NotImplementedError

    def data(self) -> str | list[str]:
        """The pattern as a file has it.

        Raises:
            ValueError: For a pattern that only Python can express.
        """
        return str(self)

    def known(self, network: Network) -> Iterable[str]:
        """The names in a model among which the pattern looks."""
        return network.by_name

    def near(self, network: Network) -> str:
        """A hint for the message if it matches nothing: names that are near."""
        known = list(dict.fromkeys(self.known(network)))
        close = difflib.get_close_matches(str(self), known, n=3, cutoff=0.5)
        if close:
            return f"did you mean {' or '.join(close)}?"
        more = f", ... ({len(known)} in all)" if len(known) > 5 else ""
        return f"the model has {', '.join(known[:5]) or 'none'}{more}"


def _any_name(matches: Callable[[str], object], site: Site) -> bool:
    if matches(site.name):
        return True
    more = site.tied or site.originals  # few have any
    return bool(more) and any(map(matches, site.tied + site.originals))


def _compiled(text: str, what: str, regex: str) -> re.Pattern[str]:
    try:
        return re.compile(regex)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{what} {text!r}: {error}") from None


@dataclass(frozen=True)
class Glob(Matcher):
    """A whole name with ``*``, ``?`` and ``[...]`` as in the shell; ``*`` takes dots, too."""

    glob: str
    _matches: Callable[[str], object] = field(init=False, repr=False, compare=False)
    key = "name"

    def __post_init__(self) -> None:
        regex = _compiled(self.glob, "glob", fnmatch.translate(self.glob))
        object.__setattr__(self, "_matches", regex.match)

    def __call__(self, site: Site) -> bool:
        return _any_name(self._matches, site)

    def __str__(self) -> str:
        return self.glob


@dataclass(frozen=True)
class Regex(Matcher):
    """A regular expression, searched for anywhere in a name."""

    regex: re.Pattern[str]
    key = "regex"

    def __call__(self, site: Site) -> bool:
        return _any_name(self.regex.search, site)

    def data(self) -> str:
        """The expression with its flags in front."""
        flags = "".join(letter for letter, flag in _FLAGS.items() if self.regex.flags & flag)
        text = _FLAGS_IN_FRONT.sub("", self.regex.pattern)
        return f"(?{flags}){text}" if flags else text

    def __str__(self) -> str:
        return self.regex.pattern


_FLAGS = {"a": re.ASCII, "i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL, "x": re.VERBOSE}
_FLAGS_IN_FRONT = re.compile(r"\A(\(\?[a-z]+\))+")


@dataclass(frozen=True)
class OfType(Matcher):
    """Parameters that modules of a class own themselves, not through modules inside them."""

    cls: type[nn.Module]
    key = "type"

    def __call__(self, site: Site) -> bool:
        return isinstance(site.module, self.cls)

    def data(self) -> str:
        return f"{self.cls.__module__}.{self.cls.__qualname__}"

    def known(self, network: Network) -> Iterable[str]:
        return _type_names(network)

    def __str__(self) -> str:
        return self.cls.__name__


@dataclass(frozen=True)
class OfTypeNamed(Matcher):
    """``OfType`` without the class: its name is compared, never imported.

    A class goes by its name alone or after any package that it is in: ``"Linear"``,
    ``"torch.nn.Linear"``, ``"torch.nn.modules.linear.Linear"``. Classes derived from it match, too.
    """

    name: str
    key = "type"

    def __call__(self, site: Site) -> bool:
        package, dot, name = self.name.rpartition(".")
        return any(
            cls.__name__ == name
            and f"{cls.__module__}.{cls.__qualname__}".startswith(package + dot)
            for cls in type(site.module).__mro__
        )

    def known(self, network: Network) -> Iterable[str]:
        return _type_names(network)

    def __str__(self) -> str:
        return self.name


def _type_names(network: Network) -> list[str]:
    return [type(site.module).__name__ for site in network.sites]


@dataclass(frozen=True)
class Predicate(Matcher):
    """A function that says of each ``Site`` whether it is meant."""

    function: Callable[[Site], bool]

    def __call__(self, site: Site) -> bool:
        return bool(self.function(site))

    def data(self) -> str:
        raise ValueError(f"{self} is Python code, which no file holds")

    def __str__(self) -> str:
        return f"predicate {getattr(self.function, '__name__', self.function)}"


@dataclass(frozen=True)
class AnyOf(Matcher):
    """Several patterns, of which one must match."""

    matchers: tuple[Matcher, ...]

    @property
    def key(self) -> str:  # type: ignore[override]
        """The key that all of its parts have."""
        keys = {matcher.key for matcher in self.matchers}
        if len(keys) != 1:
            raise ValueError(f"{self}: patterns of several kinds are no data; make a rule of each")
        return keys.pop()

    def __call__(self, site: Site) -> bool:
        return any(matches(site) for matches in self.matchers)

    def data(self) -> list[str]:
        return [str(matcher.data()) for matcher in self.matchers]

    def known(self, network: Network) -> Iterable[str]:
        return (name for matcher in self.matchers for name in matcher.known(network))

    def __str__(self) -> str:
        return " or ".join(map(str, self.matchers))


def matcher(pattern: Pattern) -> Matcher:
    """Bring a pattern into the form in which it is used.

    Args:
        pattern: One of

            * a string: a glob over a parameter's whole qualified name, case-sensitive. A parameter
              with several names (tied weights) matches by any of them, a parametrized one also by
              the names of the originals that it is computed from;
            * a compiled regular expression, searched for in these names;
            * a class of modules: the parameters that modules of the class own themselves;
            * a function from ``Site`` to bool;
            * a list or tuple of these: what any of them matches.

    Raises:
        TypeError: For anything else.
        ValueError: For a malformed glob.
    """
    if isinstance(pattern, Matcher):
        return pattern
    if isinstance(pattern, str):
        return Glob(pattern)
    if isinstance(pattern, re.Pattern) and isinstance(pattern.pattern, str):
        return Regex(pattern)
    if isinstance(pattern, type) and issubclass(pattern, nn.Module):
        return OfType(pattern)
    if isinstance(pattern, (list, tuple)):
        return AnyOf(tuple(map(matcher, pattern)))
    # A module or a class could be called, too, but is no function of a Site.
    if callable(pattern) and not isinstance(pattern, (type, nn.Module)):
        return Predicate(pattern)
    raise TypeError(
        "a pattern must be a glob (str), a compiled regular expression, a subclass of nn.Module, "
        f"a function from Site to bool, or a list of these, got {pattern!r}"
    )


def matcher_from_data(key: str, data: object, called: str | None = None) -> Matcher:
    """The matcher whose ``key`` and ``data`` these are. Errors name it ``called``, or by the key.

    Raises:
        ValueError: For data that is neither a string nor a list of strings, or malformed.
    """
    if isinstance(data, str):
        return _FROM_DATA[key](data)
    if isinstance(data, (list, tuple)) and data and all(isinstance(item, str) for item in data):
        return AnyOf(tuple(_FROM_DATA[key](item) for item in data))
    raise ValueError(f"{called or key} must be a string or a list of strings, got {data!r}")


_FROM_DATA: dict[str, Callable[[str], Matcher]] = {
    "name": Glob,
    "regex": lambda text: Regex(_compiled(text, "regex", text)),
    "type": OfTypeNamed,
}
