"""Studies as TOML files, and pyinit's own studies by name."""

import sys
from dataclasses import fields
from importlib import resources
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from pyinit._messages import near, needed
from pyinit.studies import arms
from pyinit.studies.definition import CLAIM, STUDY, TRAINING, Claim, Definition, Training
from pyinit.studies.kinds import TEXT, FieldError, inside, refuse_unknown
from pyinit.studies.references import reference_to

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SUFFIX = ".toml"
_REQUIRED = ("model", "data", "arms")


def presets() -> dict[str, Path]:
    """The files of pyinit's own studies, by name."""
    folder = Path(str(resources.files("pyinit.studies"))) / "presets"
    return {path.stem: path for path in sorted(folder.glob(f"*{SUFFIX}"))}


def read_study(source: str | PathLike[str]) -> dict[str, Any]:
    """The fields of the study that a file holds, or one of pyinit's own.

    Raises:
        ValueError: for an unknown name, a file that is no TOML, or a field that cannot be as it is; the
            message has the file, the line and the key.
        OSError: if the file cannot be read.
    """
    name = fspath(source)
    known = presets()
    if not name.endswith(SUFFIX) and name not in known:
        raise ValueError(
            f"there is no study {name!r}; {near(name, known).rstrip('?')}; or give a {SUFFIX} file"
        )
    path = known.get(name, Path(name))
    try:
        text = path.read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid TOML: {error}") from None
    try:
        found = from_table(table)
        found.setdefault("name", path.stem)
        Definition(**found)
    except FieldError as error:
        line = line_of(text, error.path)
        where = f"{path}, line {line}" if line else f"{path}"
        raise ValueError(f"{where}: {error}") from None
    return found


def from_table(table: dict[str, Any]) -> dict[str, Any]:
    """The fields of a study from a table of TOML.

    Raises:
        FieldError: for an unknown or missing key, or a value of the wrong type.
    """
    refuse_unknown(table, STUDY, "key")
    for key in _REQUIRED:
        if key not in table:
            raise FieldError((), f"the key {key} is missing")
    TEXT("data", table["data"])
    if isinstance(table.get("full"), dict) and "data" in table["full"]:
        with inside("full"):
            TEXT("data", table["full"]["data"])
    found = dict(table)
    if "training" in found:
        with inside("training"):
            found["training"] = Training(**_table(found["training"], TRAINING))
    claims = found.get("claims", [])
    if not isinstance(claims, list):
        raise FieldError(("claims",), f"must be tables, [[claims]], got {claims!r}")
    made = []
    for i, each in enumerate(claims):
        with inside("claims", i):
            made.append(_claim(each))
    return {**found, "claims": tuple(made)}


def _claim(value: Any) -> Claim:
    table = _table(value, CLAIM)
    if "metric" not in table:
        raise FieldError((), "the key metric is missing")
    return Claim(**table)


def _table(value: Any, known: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise FieldError((), f"must be a table, got {value!r}")
    refuse_unknown(value, known, "key")
    return value


def line_of(text: str, path: tuple[str | int, ...]) -> int | None:
    """The line of a TOML file in which a key gets its value, or the nearest key around it.

    It is found by reading more and more of the file: the key is in the first lines that can be read and
    have it, behind the lines that could be read and had it not.
    """
    lines = text.splitlines(keepends=True)
    for length in range(len(path), 0, -1):
        behind = 0
        for end in range(1, len(lines) + 1):
            try:
                table = tomllib.loads("".join(lines[:end]))
            except tomllib.TOMLDecodeError:
                continue
            if _has(table, path[:length]):
                return behind + 1
            behind = end
    return None


def _has(value: Any, path: tuple[str | int, ...]) -> bool:
    try:
        for key in path:
            value = value[key]
    except (KeyError, IndexError, TypeError):
        return False
    return True


def to_toml(study: Definition) -> str:
    """A study as TOML.

    Raises:
        ValueError: for what a file cannot name.
    """
    writer = needed("tomli_w", "writing a study", "tomli-w", '"pyinit[study]"')
    table = {
        each.name: getattr(study, each.name)
        for each in fields(Definition)
        if not _is_default(study, each)
    }
    table["model"] = reference_to(study.model)
    if not isinstance(study.data, (str, PathLike)):
        raise ValueError(f"data: a file cannot name {type(study.data).__name__} in memory")  # noqa: TRY004
    table["data"] = fspath(study.data)
    table["arms"] = {name: arms.plain(arm) for name, arm in study.arms.items()}
    table["training"] = _changed(study.training, Training())
    table["theory"] = {name: reference_to(each) for name, each in study.theory.items()}
    table["claims"] = [_changed(claim, None) for claim in study.claims]
    order = ("name", "question", "model", "data", "seeds", "steps", "epochs", "track")
    ordered = {key: table[key] for key in (*order, *table) if key in table}
    written = {key: each for key, each in _listed(ordered).items() if each not in ({}, [])}
    for key, each in written.items():
        try:
            writer.dumps({key: each})
        except TypeError as error:  # noqa: PERF203  the key is told
            raise ValueError(f"{key}: a file cannot hold it: {error}") from None
    text: str = writer.dumps(written)
    return text


def _is_default(study: Definition, each: Any) -> bool:
    return getattr(study, each.name) in (each.default, None) and each.name != "name"


def _changed(value: Any, default: Any) -> dict[str, Any]:
    return {
        each.name: getattr(value, each.name)
        for each in fields(value)
        if getattr(value, each.name)
        not in ({}, each.default if default is None else getattr(default, each.name))
    }


def _listed(value: Any) -> Any:
    if isinstance(value, Claim):
        return _listed(_changed(value, None))
    if isinstance(value, dict):
        return {key: _listed(each) for key, each in value.items()}
    return list(map(_listed, value)) if isinstance(value, (list, tuple)) else value


def schema() -> dict[str, Any]:
    """The JSON schema of a study's file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A study of pyinit",
        "type": "object",
        "properties": {name: dict(kind.schema) for name, kind in STUDY.items()},
        "required": list(_REQUIRED),
        "additionalProperties": False,
    }
