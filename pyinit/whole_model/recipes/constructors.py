"""What a constructor starts a parameter with, read from its source.

On the meta device the values are gone, but not the code that made them:
``self.gamma = nn.Parameter(init_values * torch.ones(dim))``. Only simple code counts: numbers, the
module's attributes, and the functions in the tables below. What anything else does is not known.
"""

import ast
import inspect
import math
import operator
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from types import CodeType
from typing import Any, NamedTuple, NoReturn

from torch import nn

from pyinit.initializers import ONES, ZEROS, Constant, Initializer, Normal, TruncNormal, Uniform


class Constructed(NamedTuple):
    """What a constructor starts a parameter with.

    initializer: an initializer that does the same
    assumed: the arguments of the constructor that it depends on and whose values are not known, so
        that they are taken to be the defaults
    """

    initializer: Initializer
    assumed: tuple[str, ...]


def constructed(
    module: nn.Module, leaf: str, around: Sequence[nn.Module] = ()
) -> Constructed | None:
    """What the constructor of a module starts the parameter ``leaf`` with; None if it is not known.

    around: the modules around it, inner ones first. An argument that none of the module's attributes
        holds is that argument of theirs, if one of their attributes holds it, or is in their config.
    """
    kinds = {cls.__name__ for cls in type(module).__mro__} - {"Module", "object"}
    if any(kinds & _started_inside(type(each)) for each in around):  # type: ignore[arg-type]
        return None  # by code around it, which comes later
    reading = _Reading(module, leaf, around)
    try:
        reading.constructors()
    except RecursionError:
        return None
    return reading.start if isinstance(reading.start, Constructed) else None


class _UnknownError(Exception):
    """What an expression is cannot be told from the source."""


_ABSENT, _UNKNOWN = "absent", "unknown"

_Scope = dict[str, Any]


class _Reading:
    """Goes through what a constructor does, and keeps what a parameter holds after it."""

    def __init__(self, module: nn.Module, leaf: str, around: Sequence[nn.Module]) -> None:
        self.module, self.leaf, self.around = module, leaf, around
        self.start: Constructed | str = _ABSENT
        self.assumed: set[str] = set()
        self.running: list[str] = []

    def constructors(self) -> None:
        classes = [
            cls
            for cls in type(self.module).__mro__
            if "__init__" in vars(cls) and cls is not nn.Module and issubclass(cls, nn.Module)
        ]
        for cls in reversed(classes):
            definition = _source_of(cls.__init__)
            if definition is not None:
                # What a class passes to its base may be other than the base's defaults.
                defaults = _defaults(classes[0].__init__)
                self.block(definition.body, _Arguments(self, definition, defaults))

    # ---- Statements ----

    def block(self, statements: Sequence[ast.stmt], scope: _Scope) -> bool:
        """Go through statements in order; whether they end with a return."""
        return any(self.statement(each, scope) for each in statements)

    def statement(self, node: ast.stmt, scope: _Scope) -> bool:
        if isinstance(node, (ast.Return, ast.Raise)):
            return True
        if isinstance(node, ast.If):
            return self.branches(node, scope)
        if isinstance(node, (ast.For, ast.While)):
            _forget(node, scope)
            self.block(node.body, scope)
            _forget(node, scope)
        elif isinstance(node, (ast.With, ast.Try)):
            return self.block(node.body, scope)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            self.assign(targets, node.value, scope)
        elif isinstance(node, ast.AugAssign):
            if self.is_meant(node.target):
                self.start = _UNKNOWN
            _forget(node, scope)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            self.call(node.value, scope)
        return False

    def branches(self, node: ast.If, scope: _Scope) -> bool:
        try:
            return self.block(node.body if self.value(node.test, scope) else node.orelse, scope)
        except _UnknownError:
            pass
        before, ends = self.start, []
        for branch in (node.body, node.orelse):
            self.start = before
            self.block(branch, scope)
            _forget(node, scope)
            ends.append(self.start)
        others = [end for end in ends if end != _ABSENT] or ends
        self.start = others[0] if others.count(others[0]) == len(others) else _UNKNOWN
        return False

    def assign(self, targets: Sequence[ast.expr], value: ast.expr, scope: _Scope) -> None:
        for target in targets:
            if self.is_meant(target) and isinstance(value, ast.Constant) and value.value is None:
                self.start = _ABSENT
            elif self.is_meant(target):
                self.starts(lambda: self.tensor(value, scope))
            elif isinstance(target, ast.Subscript) and self.is_meant(target.value):
                self.start = _UNKNOWN
            elif isinstance(target, ast.Name):
                scope[target.id] = self.local(value, scope)
            else:
                _forget(target, scope)

    def local(self, node: ast.expr, scope: _Scope) -> Any:
        """What a local variable holds: a value, or what a new tensor holds."""
        try:
            return self.value(node, scope)
        except _UnknownError:
            pass
        try:
            return self.tensor(node, scope)
        except _UnknownError:
            return _UNKNOWN_VALUE

    def call(self, node: ast.Call, scope: _Scope) -> None:
        name = _name_of(node.func)
        of = node.func.value if isinstance(node.func, ast.Attribute) else None
        is_own = isinstance(of, ast.Name) and of.id == "self"
        if of is not None and self.is_meant(of):
            if name.endswith("_") and name != "requires_grad_":
                self.starts(lambda: self.filled(name, node.args, node.keywords, scope))
        elif name == "setattr" or (is_own and name == "register_parameter"):
            *_, at, value = (node, node, *node.args)
            if self.is_name(at):
                self.starts(lambda: self.tensor(value, scope))
        elif node.args and self.is_meant(node.args[0]):
            self.starts(lambda: self.filled(name, node.args[1:], node.keywords, scope))
        elif node.args and isinstance(node.args[0], ast.Subscript):
            if self.is_meant(node.args[0].value):
                self.start = _UNKNOWN
        elif is_own and not hasattr(nn.Module, name) and name not in self.running:
            self.method(name, node, scope)

    def method(self, name: str, node: ast.Call, scope: _Scope) -> None:
        definition = _source_of(getattr(type(self.module), name, None))
        if definition is None:
            return
        names = [a.arg for a in definition.args.args][1:]
        given = dict(zip(names, node.args, strict=False))
        given |= {k.arg: k.value for k in node.keywords if k.arg}
        inner: _Scope = dict(_defaults(getattr(type(self.module), name)))
        for argument, value in given.items():
            inner.pop(argument, None)
            try:
                inner[argument] = self.value(value, scope)
            except _UnknownError:
                continue
        self.running.append(name)
        self.block(definition.body, inner)
        self.running.pop()

    def starts(self, read: Callable[[], Initializer]) -> None:
        self.assumed = set()
        try:
            self.start = Constructed(read(), tuple(sorted(self.assumed)))
        except (_UnknownError, ValueError, TypeError):  # or an initializer refuses its arguments
            self.start = _UNKNOWN

    # ---- Expressions ----

    def is_meant(self, node: ast.expr) -> bool:
        """Whether an expression is the parameter, or its values."""
        if isinstance(node, ast.Attribute):
            if node.attr == "data":
                return self.is_meant(node.value)
            return _is_self(node.value) and node.attr == self.leaf
        if isinstance(node, ast.Call) and _name_of(node.func) == "getattr" and len(node.args) > 1:
            return _is_self(node.args[0]) and self.is_name(node.args[1])
        return False

    def is_name(self, node: ast.expr) -> bool:
        """Whether an expression is the parameter's name, such as ``f"cls_token_{i}"``."""
        if isinstance(node, ast.JoinedStr):
            parts = (
                re.escape(str(part.value)) if isinstance(part, ast.Constant) else ".+"
                for part in node.values
            )
            return re.fullmatch("".join(parts), self.leaf) is not None
        return isinstance(node, ast.Constant) and node.value == self.leaf

    def tensor(self, node: ast.expr, scope: _Scope) -> Initializer:
        """What a new tensor holds."""
        if isinstance(node, ast.Name) and isinstance(scope.get(node.id), Initializer):
            return scope[node.id]  # type: ignore[no-any-return]
        if isinstance(node, ast.IfExp):
            is_none = isinstance(node.orelse, ast.Constant) and node.orelse.value is None
            is_body = is_none or self.value(node.test, scope)
            return self.tensor(node.body if is_body else node.orelse, scope)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            return self.product(node, scope)
        if not isinstance(node, ast.Call):
            raise _UnknownError
        if _name_of(node.func) == "Parameter":
            return self.tensor(_argument(node, 0, "data"), scope)
        return self.new(node, scope)

    def product(self, node: ast.BinOp, scope: _Scope) -> Initializer:
        try:
            factor, tensor = self.value(node.left, scope), node.right
        except _UnknownError:
            factor, tensor = self.value(node.right, scope), node.left
        return _times(factor, self.tensor(tensor, scope))

    def new(self, node: ast.Call, scope: _Scope) -> Initializer:
        """What a function gives whose result is a tensor."""
        name = _name_of(node.func)
        if name in _NEW:
            return _NEW[name]
        if name in _FULL:
            number = _argument(node, *_FULL[name])
            while isinstance(number, (ast.List, ast.Tuple)) and len(number.elts) == 1:
                number = number.elts[0]
            return Constant(float(self.value(number, scope)))
        if name == "log" and node.args:
            inner = self.tensor(node.args[0], scope)
            return Constant(math.log(inner.val)) if isinstance(inner, Constant) else _unknown()
        if name in _SAME_VALUES and isinstance(node.func, ast.Attribute):
            return self.tensor(node.func.value, scope)
        if name in _FILLS and node.args:
            return self.filled(name, node.args[1:], node.keywords, scope)
        raise _UnknownError

    def filled(
        self,
        name: str,
        args: Sequence[ast.expr],
        keywords: Sequence[ast.keyword],
        scope: _Scope,
    ) -> Initializer:
        """What a function that fills a tensor in place leaves in it."""
        if name not in _FILLS:
            raise _UnknownError
        values = [self.value(arg, scope) for arg in args]
        named = {k.arg: self.value(k.value, scope) for k in keywords if k.arg}
        return _FILLS[name](*values, **named)

    def value(self, node: ast.expr, scope: _Scope) -> Any:
        """The value of an expression of numbers, texts and attributes of the module."""
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            return _plain(scope[node.id]) if node.id in scope else _unknown()
        if isinstance(node, ast.Attribute) and _is_self(node.value):
            return _plain(getattr(self.module, node.attr, _UNKNOWN_VALUE))
        if isinstance(node, ast.Compare):
            return self.compared(node, scope)
        function, operands = _operation(node)
        return self.computed(function, [self.value(each, scope) for each in operands])

    def compared(self, node: ast.Compare, scope: _Scope) -> bool:
        if len(node.ops) > 1 or type(node.ops[0]) not in _OPERATORS:
            raise _UnknownError
        left, right = node.left, node.comparators[0]
        is_none = isinstance(right, ast.Constant) and right.value is None
        if is_none and isinstance(left, ast.Attribute) and _is_self(left.value):
            attribute = getattr(self.module, left.attr, None)
            return (attribute is None) == isinstance(node.ops[0], (ast.Is, ast.Eq))
        sides = self.value(left, scope), self.value(right, scope)
        return bool(self.computed(_OPERATORS[type(node.ops[0])], sides))

    def computed(self, function: Callable[..., Any], values: Sequence[Any]) -> Any:
        try:
            return function(*values)
        except (TypeError, ValueError, ArithmeticError):
            raise _UnknownError from None


class _Arguments(dict[str, Any]):
    """What the arguments of a constructor were, as far as anything holds them still."""

    def __init__(
        self, reading: _Reading, definition: ast.FunctionDef, defaults: Mapping[str, Any]
    ) -> None:
        super().__init__()
        self._reading, self._defaults = reading, defaults
        self._names = {a.arg for a in (*definition.args.args, *definition.args.kwonlyargs)}
        self._kept = dict(_attributes_of_arguments(definition))

    def __contains__(self, name: object) -> bool:
        if super().__contains__(name):
            return True
        if name not in self._names:
            return False
        for holder, attribute in self._holders(str(name)):
            value = getattr(holder, attribute, None)
            if isinstance(value, (int, float, str)):
                self[str(name)] = value
                return True
        return name in self._defaults

    def __missing__(self, name: str) -> Any:
        self._reading.assumed.add(name)
        return self._defaults[name]

    def _holders(self, name: str) -> Iterator[tuple[Any, str]]:
        if name in self._kept:
            yield self._reading.module, self._kept[name]
        for around in self._reading.around:
            kept = _kept_by(type(around)).get(name)  # type: ignore[arg-type]  # classes are hashable
            if kept is not None:
                yield around, kept
            yield getattr(around, "config", None), name


@lru_cache(maxsize=256)
def _started_inside(cls: type[nn.Module]) -> frozenset[str]:
    """The kinds of modules that a constructor looks for among those inside, to start them anew.

    It says ``isinstance(module, Kind)`` itself, or in a method that it applies to all modules.
    """
    found, functions = set(), [vars(each).get("__init__") for each in cls.__mro__]
    for function in functions:
        definition = _source_of(function)
        for node in ast.walk(definition) if definition is not None else ():
            if not isinstance(node, ast.Call):
                continue
            if _name_of(node.func) == "isinstance" and len(node.args) > 1:
                parts = ast.walk(node.args[1])
                found |= {_name_of(each) for each in parts if isinstance(each, ast.expr)}
            elif _name_of(node.func) == "apply" and node.args:
                applied = getattr(cls, _name_of(node.args[0]), None)
                functions += [] if applied in functions else [applied]
    return frozenset(found - {""})


@lru_cache(maxsize=256)
def _kept_by(cls: type[nn.Module]) -> Mapping[str, str]:
    """Which arguments of its constructor a class keeps, and in which attributes."""
    definition = _source_of(cls.__init__)
    return {} if definition is None else dict(_attributes_of_arguments(definition))


def _attributes_of_arguments(definition: ast.FunctionDef) -> Iterator[tuple[str, str]]:
    """The arguments that a constructor keeps as they are, and in which attributes."""
    for node in ast.walk(definition):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Name):
            for target in node.targets:
                if isinstance(target, ast.Attribute) and _is_self(target.value):
                    yield node.value.id, target.attr


def _source_of(function: Any) -> ast.FunctionDef | None:
    return _parsed(function) if inspect.isfunction(function) else None


@lru_cache(maxsize=1024)
def _parsed(function: Any) -> ast.FunctionDef | None:
    try:
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    except (OSError, TypeError, SyntaxError, ValueError):  # no source, or a lambda's
        return None
    if not isinstance(definition, ast.FunctionDef) or not _is_source_of(definition, function):
        return None
    return definition


def _is_source_of(definition: ast.FunctionDef, function: Any) -> bool:
    """Whether a function was made from this source; the file may have changed since its import."""
    original = inspect.unwrap(function)
    cls = original.__qualname__.split(".")[-2:][0]  # by which Python names what is private
    holder = ast.parse(f"class {cls if cls.isidentifier() else '_'}: pass")
    holder.body[0].body = [definition]  # type: ignore[attr-defined]
    made = _code_in(_code_in(compile(holder, "<source>", "exec")))
    return _traits(made) == _traits(original.__code__)


def _code_in(code: CodeType) -> CodeType:
    return next(each for each in code.co_consts if isinstance(each, CodeType))


def _traits(code: CodeType) -> tuple[Any, ...]:
    """What two ways to compile the same source have in common; docstrings may be indented otherwise."""
    constants = [
        repr(each)
        for each in code.co_consts
        if not isinstance(each, CodeType) and not (isinstance(each, str) and "\n" in each)
    ]
    return code.co_names, code.co_varnames, constants


def _defaults(function: Any) -> dict[str, Any]:
    return {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is not parameter.empty
    }


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "self"


def _name_of(function: ast.expr) -> str:
    """The last part of a function's name: ``ones`` for ``torch.ones``."""
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _operation(node: ast.expr) -> tuple[Callable[..., Any], Sequence[ast.expr]]:
    """The function that an expression applies, and to what."""
    function: Callable[..., Any] | None
    operands: Sequence[ast.expr]
    if isinstance(node, ast.Call):
        function, operands = _FUNCTIONS.get(_name_of(node.func)), node.args
    elif isinstance(node, ast.UnaryOp):
        function, operands = _OPERATORS.get(type(node.op)), [node.operand]
    elif isinstance(node, ast.BinOp):
        function, operands = _OPERATORS.get(type(node.op)), [node.left, node.right]
    else:
        raise _UnknownError
    return (function, operands) if function is not None else _unknown()


def _argument(node: ast.Call, position: int, name: str) -> ast.expr:
    if len(node.args) > position:
        return node.args[position]
    found = next((k.value for k in node.keywords if k.arg == name), None)
    return _unknown() if found is None else found


def _forget(changed: ast.AST, scope: _Scope) -> None:
    """The local variables that code changes are not known from here on."""
    for node in ast.walk(changed):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            scope[node.id] = _UNKNOWN_VALUE


_UNKNOWN_VALUE = object()


def _unknown() -> NoReturn:
    raise _UnknownError


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, (bool, int, float, str)) else _unknown()


def _times(factor: Any, initializer: Initializer) -> Initializer:
    if isinstance(factor, (int, float)):
        if isinstance(initializer, Constant):
            return Constant(initializer.val * factor)
        if isinstance(initializer, Normal):
            return Normal(initializer.mean * factor, initializer.std * abs(factor))
        if isinstance(initializer, Uniform) and factor > 0:
            return Uniform(initializer.a * factor, initializer.b * factor)
    return _unknown()


def _cut_at_deviations(
    mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0
) -> TruncNormal:
    return TruncNormal(mean, std, mean + a * std, mean + b * std)


_NEW: Mapping[str, Initializer] = {
    **dict.fromkeys(("zeros", "zeros_like", "new_zeros"), ZEROS),
    **dict.fromkeys(("ones", "ones_like", "new_ones"), ONES),
    **dict.fromkeys(("randn", "randn_like"), Normal()),
    **dict.fromkeys(("rand", "rand_like"), Uniform()),
}
_FILLS: Mapping[str, Callable[..., Initializer]] = {
    **dict.fromkeys(("zeros_", "zero_"), lambda: ZEROS),
    "ones_": lambda: ONES,
    **dict.fromkeys(("constant_", "fill_"), lambda val: Constant(float(val))),
    "normal_": lambda mean=0.0, std=1.0: Normal(mean, std),
    "uniform_": lambda a=0.0, b=1.0: Uniform(a, b),
    "trunc_normal_": lambda mean=0.0, std=1.0, a=-2.0, b=2.0: TruncNormal(mean, std, a, b),
    "trunc_normal_tf_": _cut_at_deviations,  # timm's, whose bounds are in standard deviations
}
# Functions that fill a new tensor with a number, and which argument that is.
_FULL: Mapping[str, tuple[int, str]] = {
    **dict.fromkeys(("full", "full_like"), (1, "fill_value")),
    **dict.fromkeys(("tensor", "as_tensor"), (0, "data")),
}
_SAME_VALUES = frozenset(
    ("view", "reshape", "expand", "repeat", "clone", "contiguous", "unsqueeze", "squeeze", "to")
)
_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "sqrt": math.sqrt,
    "log": math.log,
    "exp": math.exp,
    "float": float,
    "abs": abs,
}
_OPERATORS: Mapping[type, Callable[..., Any]] = {
    ast.USub: operator.neg,
    ast.Not: operator.not_,
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}
