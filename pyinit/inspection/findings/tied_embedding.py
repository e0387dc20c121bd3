"""Embeddings that are too large for the head they are tied to."""

import math
from collections.abc import Iterator

from torch import nn

from pyinit._graph.kinds import EMBEDDINGS, is_layer
from pyinit.inspection.findings.finding import Found, kind
from pyinit.inspection.subject import Item, Subject, plain

_MOST = 4.0  # times 1 / sqrt(width), which gives logits of size 1


@kind("PI111", "embedding too large for its head", is_informational=True)
def tied_embedding(subject: Subject) -> Iterator[Found]:
    """An embedding that a head shares, and that is too large for the head.

    The logits of a head whose rows have length L are of size L, behind a norm. `nn.Embedding` draws from
    N(0, 1), rows of length sqrt(width): the first loss is then far above the logarithm of the number of
    classes. It is for information, because a model may scale its logits, as T5 does.

    ```python
    import pyinit
    from torch import nn

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(100, 64)
            self.norm = nn.LayerNorm(64)
            self.head = nn.Linear(64, 100, bias=False)
            self.head.weight = self.embedding.weight

        def forward(self, tokens):
            return self.head(self.norm(self.embedding(tokens)))

    findings = pyinit.check(Model())
    ```

    Draw it for the head:

    ```python
    import pyinit
    from torch import nn

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(100, 64)
            self.norm = nn.LayerNorm(64)
            self.head = nn.Linear(64, 100, bias=False)
            self.head.weight = self.embedding.weight
            nn.init.normal_(self.embedding.weight, std=0.02)

        def forward(self, tokens):
            return self.head(self.norm(self.embedding(tokens)))

    findings = pyinit.check(Model())
    ```
    """
    for item in subject.items:
        one = item.statistics
        if one is None or not item.is_finite or len(item.shape) != 2 or not item.tied:
            continue
        owners = [_owner(name, subject) for name in (item.name, *item.tied)]
        if not any(isinstance(m, EMBEDDINGS) for m in owners) or not any(map(_is_head, owners)):
            continue
        wanted = 1 / math.sqrt(item.shape[1])
        if one.std > _MOST * wanted:
            yield (
                item.name,
                f"std {plain(one.std)}, rows of length {plain(one.std / wanted)}",
                f"std {plain(wanted)} or less",
                f"the head {_head_of(item, subject)} gives logits of that size",
                "likely",
            )


def _owner(name: str, subject: Subject) -> nn.Module | None:
    assert subject.network is not None
    return subject.network.modules.get(name.rpartition(".")[0])


def _is_head(module: nn.Module | None) -> bool:
    return module is not None and is_layer(module)


def _head_of(item: Item, subject: Subject) -> str:
    names = (item.name, *item.tied)
    return next(n for n in names if _is_head(_owner(n, subject))).rpartition(".")[0]
