"""Values that come out otherwise in another run, on another device or in another process."""

from collections.abc import Iterator

from pyinit.inspection.findings.finding import Found, kind
from pyinit.inspection.subject import Subject


@kind("PI201", "different in a second run")
def differs_between_runs(subject: Subject) -> Iterator[Found]:
    """A parameter or buffer that differs between two runs with the same seed, with `reproducible=True`.

    Before each run the generators of torch, NumPy and Python are seeded alike. What differs draws from a
    generator of its own, from the clock, or from the order of a set.

    ```python
    import pyinit
    import torch
    from torch import nn

    generator = torch.Generator().manual_seed(0)

    def init(model):
        nn.init.normal_(model.weight, std=0.2, generator=generator)
        nn.init.zeros_(model.bias)

    findings = pyinit.check(nn.Linear(16, 16), init, reproducible=True)
    ```

    Seed it in the initialization:

    ```python
    import pyinit
    import torch
    from torch import nn

    def init(model):
        generator = torch.Generator().manual_seed(0)
        nn.init.normal_(model.weight, std=0.2, generator=generator)
        nn.init.zeros_(model.bias)

    findings = pyinit.check(nn.Linear(16, 16), init, reproducible=True)
    ```
    """
    yield from _of("runs", subject, "the same in two runs with one seed")


@kind("PI202", "different by way of the meta device")
def differs_on_meta(subject: Subject) -> Iterator[Found]:
    """A parameter or buffer that differs if the model is built on the meta device, given memory, and then
    initialized, with `reproducible=True`.

    What only the constructor writes is lost there, and what the constructor draws from the generator
    leaves other numbers for `init`.

    ```python
    import pyinit
    import torch
    from torch import nn

    class Model(nn.Linear):
        def __init__(self):
            super().__init__(16, 16)
            self.register_buffer("scale", torch.full((16,), 0.5))

    findings = pyinit.check(Model, "reset_parameters", reproducible=True)
    ```

    Let `init` write all of it, from a seed of its own:

    ```python
    import pyinit
    from torch import nn

    def init(model):
        pyinit.initialize_(model, seed=0)

    findings = pyinit.check(lambda: nn.Linear(16, 16), init, reproducible=True)
    ```
    """
    yield from _of("meta", subject, "the same, built on the meta device")


@kind("PI203", "different in another process")
def differs_between_processes(subject: Subject) -> Iterator[Found]:
    """A parameter or buffer that differs in another process, with `reproducible=True`.

    What differs depends on the process: on `hash()` of a string, on the order of a set, on memory that
    nobody has written. The factory, and `init`, must be such as pickle takes: functions of a module, not
    lambdas.

    ```python
    import functools
    import pyinit
    from torch import nn

    def init(model):
        pyinit.initialize_(model, seed=abs(hash("my model")))

    factory = functools.partial(nn.Linear, 16, 16)
    findings = pyinit.check(factory, init, reproducible=True)
    ```

    ```python
    import functools
    import pyinit
    from torch import nn

    factory = functools.partial(nn.Linear, 16, 16)
    findings = pyinit.check(factory, pyinit.initialize_, reproducible=True)
    ```
    """
    yield from _of("process", subject, "the same in another process")


def _of(how: str, subject: Subject, expected: str) -> Iterator[Found]:
    for difference in subject.differences:
        if difference.how == how:
            yield (
                difference.name,
                difference.found,
                expected,
                "nobody could make the model again",
                "possible" if difference.is_unknown else "certain",
            )
