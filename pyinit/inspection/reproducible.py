"""Whether an initialization gives the same everywhere: in two runs, on the meta device, in two processes."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import nn

from pyinit._torch.digests import digest
from pyinit.inspection.initialization import Initialization, seeded
from pyinit.inspection.subject import Difference
from pyinit.inspection.tensors import examinable
from pyinit.whole_model.engine.materialize import materialize_

Digests = Mapping[str, int]
Factory = Callable[[], nn.Module]

_IN_CHILD = "PYINIT_CHECK_CHILD"  # set in another process, which starts no further one
_MODEL = "(the model)"


def digests(model: nn.Module) -> Digests:
    """Of each parameter and buffer that is here, by its name."""
    return {held.name: digest(held.tensor) for held in examinable(model)}


def made(factory: Factory, init: Initialization | None) -> nn.Module:
    """A model of a factory, initialized, from seeded generators."""
    with seeded():
        model = factory()
    if init is not None:
        init.run(model)
    return model


def differences(
    factory: Factory, init: Initialization | None, step: Callable[[str], None]
) -> Iterator[Difference]:
    """What comes out otherwise than the first time."""
    step("building it once more")
    first = digests(made(factory, init))
    yield from compared("runs", first, digests(made(factory, init)))
    if init is not None:
        step("building it on the meta device")
        yield from _by_meta(first, factory, init)
    if _IN_CHILD not in os.environ:
        step("building it in another process")
        yield from _by_process(first, factory, init)


def compared(how: str, first: Digests, second: Digests) -> Iterator[Difference]:
    for name in first:
        if name not in second:
            yield Difference(how, name, "it is not there")
        elif first[name] != second[name]:
            yield Difference(how, name, "other values")


def _by_meta(first: Digests, factory: Factory, init: Initialization) -> Iterator[Difference]:
    try:
        model = _from_meta(factory, init)
    except Exception as error:  # noqa: BLE001  a factory may do anything that tensors without memory cannot
        yield Difference("meta", _MODEL, f"cannot be built so: {_short(error)}", is_unknown=True)
        return
    yield from compared("meta", first, digests(model))


def _from_meta(factory: Factory, init: Initialization) -> nn.Module:
    """Built on the meta device, and given memory by the initialization or before it."""
    with seeded(), torch.device("meta"):
        model = factory()
    try:
        init.run(model)
        if not any(t.is_meta for t in (*model.parameters(), *model.buffers())):
            return model
    except RuntimeError:
        with seeded(), torch.device("meta"):
            model = factory()
    materialize_(model)
    with torch.no_grad():
        for held in examinable(model):
            held.tensor.zero_()  # not what the memory held
    init.run(model)
    return model


def _by_process(
    first: Digests, factory: Factory, init: Initialization | None
) -> Iterator[Difference]:
    try:
        work = pickle.dumps(sys.path) + pickle.dumps((factory, None if init is None else init.init))
    except Exception as error:  # noqa: BLE001  pickling calls what the objects define
        yield Difference("process", _MODEL, f"not compared: {_short(error)}", is_unknown=True)
        return
    environment = os.environ | {_IN_CHILD: "1"}
    environment.pop("PYTHONHASHSEED", None)  # another order of sets
    child = subprocess.run(
        [sys.executable, "-c", _PROGRAM % str(Path(__file__).parents[2])],
        input=work,
        capture_output=True,
        env=environment,
        check=False,
    )
    if child.returncode:
        last = child.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        yield Difference("process", _MODEL, f"not compared: {last}", is_unknown=True)
        return
    second = json.loads(child.stdout.rpartition(b"\n")[2])
    yield from compared("process", first, second)


_PROGRAM = """\
import sys
sys.path.insert(0, %r)
from pyinit.inspection.reproducible import _child
_child()
"""


def _child() -> None:
    """What the other process does: the digests, as the last line."""
    stream = sys.stdin.buffer
    sys.path[:] = pickle.load(stream)  # before what is found by it
    factory, init = pickle.load(stream)
    found = digests(made(factory, None if init is None else Initialization(init)))
    sys.stdout.write("\n" + json.dumps(found))


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
