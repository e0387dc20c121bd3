"""For ``search.py``: scores of a model, of which the lowest is sought."""

import math
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn

from pyinit._messages import near
from pyinit.data_driven.adjustable import Adjustable
from pyinit.data_driven.differentiated import differentiated
from pyinit.data_driven.engine import Work
from pyinit.data_driven.quotient import gradient_quotient
from pyinit.data_driven.schemes import Chosen, Group, choice_of
from pyinit.inspection.batches import Batch
from pyinit.inspection.default_loss import default_loss
from pyinit.inspection.put_back import put_back


def name_of(score: object) -> str:
    if isinstance(score, str):
        if score not in SCORES:
            raise ValueError(f"unknown score {score!r}; {near(score, SCORES)}")
        return score
    if not callable(score):
        names = " or ".join(map(repr, SCORES))
        raise TypeError(f"score must be {names}, or a function of model and batch, got {score!r}")
    return str(getattr(score, "__qualname__", type(score).__qualname__))


class Scorer:
    """Gives the model a choice, and computes its score."""

    def __init__(  # noqa: PLR0917
        self,
        work: Work,
        groups: Sequence[Group],
        score: str | Callable[[nn.Module, Batch], float],
        steps: int,
        lr: float,
        loss: Callable[..., Tensor] | None,
    ) -> None:
        self._work, self._groups, self._score = work, groups, score
        self._loss, self.steps, self.lr = loss or default_loss, steps, lr
        self._base = {
            each.name: choice_of(work, each, None) for group in groups for each in group.weights
        }

    def of_base(self) -> float:
        """The score with what the base gives."""
        return self._scored()

    def base_of(self, weight: Adjustable) -> str:
        return str(self._base[weight.name].initializer)

    def __call__(self, chosen: Chosen) -> float:
        """The score of a choice; infinite if it is not finite."""
        self.apply(chosen)
        return self._scored()

    def apply(self, chosen: Chosen) -> None:
        """Give the weights their initializers."""
        for group in self._groups:
            several = group.choices[chosen[group.name]]
            for weight, choice in zip(group.weights, several, strict=True):
                self._work.initialize_(weight, choice)

    def _scored(self) -> float:
        batch = self._work.batch
        assert batch is not None
        if isinstance(self._score, str):
            value = SCORES[self._score](self, batch)
        else:
            with self._work.passes(), put_back(self._work.model):
                value = _number(self._score(self._work.model, batch))
        return value if math.isfinite(value) else math.inf

    def quotient(self, batch: Batch) -> float:
        with differentiated("search", self._work, self._loss, None) as network:
            return float(gradient_quotient(network, network.values(), batch).detach())

    def trained_loss(self, batch: Batch) -> float:
        with differentiated("search", self._work, self._loss, None) as network:
            values = network.values()
            for _ in range(self.steps):
                trained = {name: each for name, each in values.items() if each.requires_grad}
                gradients = network.by(
                    network.loss(values, batch), list(trained.values()), last=True
                )
                values |= {
                    name: (each - self.lr * gradient).detach().requires_grad_()
                    for (name, each), gradient in zip(trained.items(), gradients, strict=True)
                }
            return float(network.loss(values, batch).detach())


SCORES: Mapping[str, Callable[[Scorer, Batch], float]] = {
    "gradient_quotient": Scorer.quotient,
    "loss": Scorer.trained_loss,
}


def _number(value: object) -> float:
    try:
        return float(value.detach() if isinstance(value, Tensor) else value)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"score must return a number, got {value!r}") from None
