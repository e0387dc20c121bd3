"""Tensors that only a module's own code can give their values, made in memory one module at a time."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from pyinit._random.generators import all_seeded
from pyinit.whole_model.engine.buffers import BufferReset, Sources
from pyinit.whole_model.engine.plan import Entry
from pyinit.whole_model.initialize import set_computed
from pyinit.whole_model.network import Network
from pyinit.whole_model.own_resets import OwnReset, attributes_kept, stand_ins

_CPU = torch.device("cpu")


class OwnCode:
    """Code that gives values to tensors of a module.

    path: the module's name
    run: the code, which is called while the tensors have memory
    latest: keeps what it makes until other code makes something
    """

    def __init__(
        self, network: Network, path: str, run: Callable[[], object], latest: "Latest"
    ) -> None:
        self.path, self.run, self._latest = path, run, latest
        self._module = network.modules[path]

    def value(self, module: str, leaf: str) -> Tensor:
        """What it gives to the tensor ``leaf`` of a module, which is this one or is in it."""
        inside = module[len(self.path) :].lstrip(".")
        return self._latest.made_by(self)[f"{inside}.{leaf}" if inside else leaf]

    def made(self) -> dict[str, Tensor]:
        """All tensors of the module after the code has run; those of the model stay as they are."""
        module = self._module
        with attributes_kept([*module.modules()]), stand_ins(module, self._with_memory()):
            self.run()
            return {
                name: tensor.detach()
                for tensors in (
                    module.named_parameters(remove_duplicate=False),
                    module.named_buffers(remove_duplicate=False),
                )
                for name, tensor in tensors
                if not tensor.is_meta
            }

    def _with_memory(self) -> Callable[[Tensor], Tensor]:
        return _in_memory


class Latest:
    """What the code of one module has made, which is asked for tensor by tensor."""

    def __init__(self) -> None:
        self._code: OwnCode | None = None
        self._made: Mapping[str, Tensor] = {}

    def made_by(self, code: OwnCode) -> Mapping[str, Tensor]:
        if code is not self._code:
            self._code, self._made = None, {}  # its memory is free before more is taken
            self._made = code.made()
            self._code = code
        return self._made


def _in_memory(tensor: Tensor) -> Tensor:
    # Memory that nothing writes to is never there.
    return torch.empty_like(tensor, device=_CPU) if tensor.is_meta else tensor.detach().clone()


class _OfOneModule(OwnCode):
    """Code that works on the tensors of one module, and not on those of the modules in it."""

    def _with_memory(self) -> Callable[[Tensor], Tensor]:
        own = {
            id(tensor)
            for name, module in self._module.named_modules()
            if not name or name.startswith("parametrizations.")
            for tensors in (module._parameters, module._buffers)
            for tensor in tensors.values()
        }
        return lambda tensor: _in_memory(tensor) if id(tensor) in own else tensor


def by_resets(
    network: Network, plan: Iterable[Entry], sources: Sources, latest: Latest
) -> dict[str, OwnCode]:
    """The code that fills each parameter, by its name, that the model's own code resets."""
    found: dict[str, OwnCode] = {}
    codes: dict[str, OwnCode] = {}
    for entry in plan:
        own = network.own_resets.of(entry.site.path, entry.site.leaf)
        assert own is not None, entry.site.name  # make_plan has refused it
        key = f"{own.path} {own.words}"
        if key not in codes:
            codes[key] = OwnCode(network, own.path, _seeded(own, sources), latest)
        found[entry.site.name] = codes[key]
    return found


def _seeded(own: OwnReset, sources: Sources) -> Callable[[], None]:
    @torch.no_grad()
    def run() -> None:
        with all_seeded(sources(own.path), _CPU):
            try:
                own.call()
            except Exception as error:
                raise RuntimeError(
                    f"{own.words}, for {own.path or 'the model'}, raised "
                    f"{type(error).__name__}: {error}"
                ) from error

    return run


def by_modules(
    network: Network,
    computed: Iterable[Entry],
    resets: Sequence[BufferReset],
    sources: Sources,
    latest: Latest,
) -> dict[str, OwnCode]:
    """The code of each module, by its name, that computes parameters from others or resets buffers."""
    entries: dict[str, list[Entry]] = {}
    for entry in computed:
        entries.setdefault(entry.site.path, []).append(entry)
    of_module: dict[str, list[BufferReset]] = {}
    for reset in resets:
        of_module.setdefault(owner_of(reset[0]), []).append(reset)
    return {
        path: _OfOneModule(
            network, path, _set_all(entries.get(path, ()), of_module.get(path, ()), sources), latest
        )
        for path in {**entries, **of_module}
    }


def owner_of(path: str) -> str:
    """The name of the module whose parametrizations a module belongs to, or else its own."""
    return path.partition(".parametrizations.")[0]


def _set_all(
    entries: Collection[Entry], resets: Collection[BufferReset], sources: Sources
) -> Callable[[], None]:
    @torch.no_grad()
    def run() -> None:
        for entry in entries:
            assert entry.site.computed is not None
            set_computed(entry, entry.site.computed, sources(entry.site.name))
        for _, _, reset in resets:
            reset(sources)

    return run


def has_persistent_buffers(module: nn.Module) -> bool:
    """Whether the module itself has buffers that a checkpoint holds."""
    names = (name for name, buffer in module._buffers.items() if buffer is not None)
    return any(name not in module._non_persistent_buffers_set for name in names)
