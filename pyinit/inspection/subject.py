"""What a check looks at: each parameter and buffer, what it holds, and what it should hold."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pyinit._graph.graph import Branch, Graph
from pyinit._graph.kinds import is_layer
from pyinit._torch.digests import digest
from pyinit._torch.once import once
from pyinit.initializers import Initializer, Weight
from pyinit.inspection.initialization import Truncation
from pyinit.inspection.poison import Writing
from pyinit.inspection.statistics import Statistics
from pyinit.inspection.tensors import (
    Held,
    described,
    held_by,
    not_examined,
    sample,
)
from pyinit.whole_model.network import Network, Site
from pyinit.whole_model.recipes import recipe
from pyinit.whole_model.recipes.registry import Choice, Choices
from pyinit.whole_model.recipes.roles import Role, Use, use_of

BY_CHANCE = 6.0  # standard errors that no mean is away from 0 by chance: once in 5e8 tensors
_FEW = 3  # values of an identity, or of a matrix of signs and zeros
_LEAST_DRAWN = 16  # elements by which drawn numbers are told from others

_NORM_SCALE = re.compile(
    r"(^|[._])(\w*norm\w*|ln|bn)[._]?\d*\.(weight|scale|gamma)$", re.IGNORECASE
)


class Difference(NamedTuple):
    """A tensor that came out otherwise.

    how: ``"runs"``, ``"meta"`` or ``"process"``
    is_unknown: whether it could not be compared
    """

    how: str
    name: str
    found: str
    is_unknown: bool = False


class Item:
    """A parameter or buffer.

    statistics: of its elements; None without any here, or of other than floating-point numbers
    site, use: a parameter's place and its use there, where a model is known
    reason: why it is not examined; None if it is
    writing, writers: what an initialization wrote, and the modules that did, if several
    """

    def __init__(self, held: Held, statistics: Statistics | None, site: Site | None) -> None:
        self.name, self.tensor, self.tied = held.name, held.tensor, held.tied
        self.module, self.is_parameter = held.module, held.is_parameter
        self.path = held.name.rpartition(".")[0]
        self.statistics, self.site = statistics, site
        self.use: Use | None = None if site is None else use_of(site)
        self.writing: Writing | None = None
        self.writers: Sequence[str] = ()
        self.reason = not_examined(held.tensor)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)

    @property
    def is_matrix(self) -> bool:
        """Whether it is a parameter of two dimensions or more, whatever its other dimensions' size."""
        return self.is_parameter and sum(size > 1 for size in self.shape) > 1

    @property
    def is_weight(self) -> bool:
        """Whether it is known to multiply a layer's input."""
        return self.use is not None and self.use.role is Role.WEIGHT

    @property
    def is_known(self) -> bool:
        """Whether it is known to be a weight, a bias or the like, or at least called a weight."""
        return self.site is None or self.use is not None or self.name.endswith("weight")

    @property
    def is_norm_scale(self) -> bool:
        if self.use is not None:
            return self.use.role in (Role.SCALE, Role.SCALE_LESS_1)
        return (
            self.site is None
            and len(self.shape) == 1
            and self.is_parameter
            and bool(_NORM_SCALE.search(self.name))
        )

    @property
    def is_left_to_constructor(self) -> bool:
        """Whether the initialization does not write it, and need not, since something else has."""
        writing = self.writing
        return (
            writing is not None
            and 0 < writing.elements == writing.unwritten
            and writing.by_constructor is not False
            and (not self.is_parameter or writing.is_kept)
        )

    @property
    def is_written_by_init(self) -> bool:
        """Whether it is known that ``init`` has written all of it, whatever the constructor did."""
        writing = self.writing
        return writing is not None and writing.by_constructor is not False and not writing.unwritten

    @property
    def is_constant(self) -> bool:
        """Whether all elements are the same number."""
        return (
            self.is_finite
            and self.statistics is not None
            and self.statistics.min == self.statistics.max
        )

    @property
    def z(self) -> float:
        """The mean in standard errors: how far it is from 0, for so many independent elements."""
        one = self.statistics
        if one is None or not one.std > 0:
            return math.nan
        return one.mean / one.std * math.sqrt(one.count)

    @property
    def is_finite(self) -> bool:
        return self.statistics is not None and self.statistics.nonfinite == 0

    @once
    def is_structured(self) -> bool:
        """Whether it has no values but 0 and two more: an identity, a Hadamard matrix, a constant."""
        one = self.statistics
        if one is None or not self.is_finite:
            return False
        few = torch.unique(sample(self.tensor))  # it is rare, and to count is to read all
        if len(few) > _FEW:
            return False
        again = described([self.tensor], [(one.min, one.max)])[0]
        assert again is not None
        zeros = 0 if 0.0 in (one.min, one.max) else again.zeros
        return again.low + again.high + zeros >= one.count

    @property
    def looks_drawn(self) -> bool:
        """Whether it looks like random numbers around 0."""
        one = self.statistics
        return (
            one is not None
            and self.is_finite
            and one.count >= _LEAST_DRAWN
            and one.std > 0
            and abs(self.z) < BY_CHANCE
            and not self.is_structured
        )

    @once
    def digest(self) -> int:
        return digest(self.tensor)

    @once
    def weight(self) -> Weight:
        return Weight(self.shape) if self.site is None else self.site.weight


class Subject:
    """What a check looks at.

    items: all parameters and buffers
    network: the model; None of a checkpoint
    truncations: the truncated normals that were asked for
    differences: what came out otherwise, run again
    """

    def __init__(
        self,
        items: Sequence[Item],
        network: Network | None = None,
        truncations: Sequence[Truncation] = (),
        differences: Sequence[Difference] = (),
    ) -> None:
        self.items, self.network = items, network
        self.truncations, self.differences = truncations, differences

    @classmethod
    def of_model(
        cls,
        model: nn.Module,
        *,
        writings: Mapping[str, Writing] = MappingProxyType({}),
        statistics: Mapping[str, Statistics | None] = MappingProxyType({}),
        writers: Mapping[str, Sequence[nn.Module]] = MappingProxyType({}),
        truncations: Sequence[Truncation] = (),
        differences: Sequence[Difference] = (),
    ) -> "Subject":
        """
        Args:
            model: the model as it is now
            writings: what became of its tensors, by name
            statistics: of those that have been measured
            writers: the modules that wrote a tensor, of those that several wrote
            truncations: the truncated normals that were asked for
            differences: what came out otherwise
        """
        all_held = held_by(model)
        network = Network(model)
        sites = {id(site.tensor): site for site in network.sites if site.computed is None}
        items = [
            Item(held, one, sites.get(id(held.tensor)))
            for held, one in zip(all_held, _statistics(all_held, statistics), strict=True)
        ]
        paths = {id(module): path or "the model" for path, module in network.modules.items()}
        for item in items:
            writing = item.writing = writings.get(item.name)
            if writing is not None and (writing.unwritten or writing.computed):
                item.statistics = None  # of poison
            item.writers = [paths.get(id(m), type(m).__name__) for m in writers.get(item.name, ())]
        return cls(items, network, truncations, differences)

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor]) -> "Subject":
        owner = nn.Module()
        all_held = [
            Held(name, tensor, owner, is_parameter=not _BUFFER.search(name))
            for name, tensor in tensors.items()
        ]
        found = _statistics(all_held, {})
        return cls([Item(held, one, None) for held, one in zip(all_held, found, strict=True)])

    @once
    def by_name(self) -> dict[str, Item]:
        return {item.name: item for item in self.items}

    @once
    def graph(self) -> Graph:
        return Graph() if self.network is None else self.network.graph

    @property
    def order(self) -> str | None:
        """How the order of layers was found; None if nothing asked for it."""
        return self.graph.source if "graph" in vars(self) and self.network is not None else None

    @once
    def branch_ends(self) -> Mapping[str, int]:
        """The paths of the last layers of residual branches, with the branches in their streams."""
        counts = self.graph.branches_of_streams()
        branches = (branch for branch in self.graph.branches if branch.layers)
        return {branch.layers[-1]: counts[branch.stream] for branch in branches}

    @once
    def in_branches(self) -> frozenset[str]:
        """The paths of the layers of residual branches, and of those that stand beside a last one."""
        layers = frozenset(path for branch in self.graph.branches for path in branch.layers)
        parents = {path.rpartition(".")[0] for path in self.branch_ends} - {""}
        beside = (i.path for i in self.items if i.path.rpartition(".")[0] in parents)
        return layers.union(beside)

    @once
    def last_norms(self) -> frozenset[str]:
        """The paths of the norms at the ends of residual branches, where only a gate may follow them."""
        norms = (
            branch.last_norm or self._norm_before_gate(branch) for branch in self.graph.branches
        )
        return frozenset(norm for norm in norms if norm)

    def _norm_before_gate(self, branch: Branch) -> str | None:
        """Of a branch that ends in squeeze and excitation, whose last layer has an activation."""
        graph = self.graph
        if not branch.layers or branch.layers[-1] not in graph.activation:
            return None
        return next((graph.norms[p] for p in reversed(branch.layers) if p in graph.norms), None)

    @once
    def planned(self) -> Choices:
        """What the recipe ``auto`` would give to each parameter."""
        return {} if self.network is None else recipe("auto").choose(self.network)

    def expected(self, item: Item) -> Choice | None:
        return self.planned.get(item.name)

    @property
    def layers(self) -> Iterator[Item]:
        """The weights of linear layers and convolutions, with elements that are finite."""
        return (
            item
            for item in self.items
            if item.is_weight and item.is_finite and item.is_matrix and is_layer(item.module)
        )


_BUFFER = re.compile(r"(^|\.)(running_(mean|var)|num_batches_tracked|inv_freq)$")


def _statistics(
    all_held: Sequence[Held], known: Mapping[str, Statistics | None]
) -> Sequence[Statistics | None]:
    """Of what is here; nothing of the rest."""
    found = [known.get(held.name) for held in all_held]
    here = [
        i
        for i, held in enumerate(all_held)
        if held.name not in known and not held.tensor.is_meta and not_examined(held.tensor) is None
    ]
    for i, one in zip(here, described([all_held[i].tensor for i in here]), strict=True):
        found[i] = one
    return found


def expected_std(initializer: Initializer, weight: Weight) -> float | None:
    """The standard deviation that an initializer aims at; of several parts, that of them together."""
    single = initializer.target_std(weight)
    if single is not None:
        return single
    blocks = initializer.resolve(weight)
    total = 0.0
    for block in blocks:
        rows = block.rows or (0, weight.shape[0])
        std = block.drawn.target_std(weight.rows(*rows))
        if std is None:
            return None
        total += std**2 * (rows[1] - rows[0])
    return math.sqrt(total / weight.shape[0]) if blocks and weight.shape[0] else None


def plain(value: Any) -> str:
    """A number as findings say it."""
    return f"{value:.3g}"


def smallest_normal(dtype: torch.dtype) -> float:
    return float(torch.finfo(dtype).smallest_normal)
