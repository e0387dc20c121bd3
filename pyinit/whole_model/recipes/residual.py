"""Recipes of residual networks: ResNet's, and those that train residual networks without norms."""

import re
from collections.abc import Callable

from torch import nn
from torch.nn.modules.conv import _ConvNd

from pyinit._graph.graph import Branch, count_by_stream
from pyinit._graph.kinds import EXPERT_ENDS, is_expert_stack
from pyinit.initializers import ONES, ZEROS, KaimingNormal, gain_of
from pyinit.whole_model.network import Network, Site
from pyinit.whole_model.recipes.choices import each, of_experts
from pyinit.whole_model.recipes.registry import Choice, Choices, register_recipe
from pyinit.whole_model.recipes.torch_defaults import torch_defaults

_HE = KaimingNormal(mode="fan_out", nonlinearity="relu")


@register_recipe("resnet", source="He et al. 2015, arXiv:1512.03385; torchvision's ResNet")
def resnet(network: Network, *, zero_last: bool = False) -> Choices:
    """Draws He normal convolutions by fan_out. Norms start at 1 and 0, the head as torch's default.

    As torchvision does it, except that the fan_out of a grouped convolution is that of a group.

    Args:
        network: the model
        zero_last: whether the last norm of each residual branch has scale 0, so that blocks start as
            the identity (Goyal et al. 2017, arXiv:1706.02677)

    Returns:
        A choice for each parameter of a module that is known.

    Raises:
        ValueError: if ``zero_last`` finds no residual branch that ends in a norm.

    References:
        He et al. 2015, arXiv:1512.03385; torchvision's ResNet

    Example:
        >>> import pyinit, torch
        >>> from pyinit.models.resnet import ResNet
        >>> with torch.device("meta"):
        ...     model = ResNet(blocks=(1, 1), width=8)
        >>> recipe = pyinit.recipe("resnet", zero_last=True)
        >>> report = pyinit.initialize_(model, recipe, dry_run=True)
        >>> print(report["layer1.0.bn3.weight"].why)
        last norm of a residual branch
    """
    last = {b.last_norm for b in _branches(network) if b.last_norm} if zero_last else set()
    if zero_last and not last:
        raise ValueError("zero_last found no residual branch that ends in a norm")

    def choose(site: Site) -> Choice | None:
        if site.leaf != "weight":
            return None
        if site.path in last:
            return Choice(ZEROS, "last norm of a residual branch")
        return Choice(_HE, "convolution") if isinstance(site.module, _ConvNd) else None

    return {**torch_defaults(network), **each(network, choose)}


@register_recipe("fixup", source="Zhang et al. 2019, arXiv:1901.09321")
def fixup(network: Network) -> Choices:
    """Scales residual branches without norms down by depth, and sets their last layers to 0.

    With L branches in a residual stream, the layers of a branch of m layers are He normal times
    L^(-1/(2m-2)), by fan_out as in the authors' code. The last layer of each branch, the model's last linear layer and
    all biases are 0. Scalars that the model adds are 0 if they are named like a bias or shift, and 1
    if they are named like a scale, gain or multiplier.

    Args:
        network: the model

    Returns:
        A choice for each parameter of a module that is known.

    Raises:
        ValueError: if no residual branch is found.

    References:
        Zhang et al. 2019, arXiv:1901.09321

    Example:
        >>> import pyinit, torch
        >>> from pyinit.models.resnet import ResNet
        >>> with torch.device("meta"):
        ...     model = ResNet(blocks=(1, 1), width=8)
        >>> report = pyinit.initialize_(model, "fixup", dry_run=True)
        >>> print(report["layer1.0.conv1.weight"].why)
        residual branch of 3 layers, one of 2 branches
    """
    branches = [branch for branch in _branches(network) if branch.layers]
    if not branches:
        raise ValueError(
            "recipe 'fixup' found no residual branch, neither by a trace nor by modules with a "
            "shortcut or downsample beside conv1, conv2, ..."
        )
    counts = count_by_stream(branches)
    layers: dict[str, Choice] = {}
    first_of_experts: dict[str, Choice] = {}
    for branch in branches:
        *before, last = branch.layers
        # The matrices of a mixture's experts stand in one module.
        is_stack = is_expert_stack(network.modules[last])
        scaled = _scaled(counts[branch.stream], len(before) + 1 + is_stack)
        if scaled is not None:
            layers |= dict.fromkeys(before, scaled)
            if is_stack:
                first_of_experts[last] = scaled
        layers[last] = Choice(ZEROS, "last layer of a residual branch")
    layers |= dict.fromkeys(_heads(network), Choice(ZEROS, "head"))
    he = Choice(_HE, "outside the residual branches")

    def choose(site: Site) -> Choice | None:
        if site.path in first_of_experts and site.leaf not in EXPERT_ENDS:
            scaled = first_of_experts[site.path]
            stacked = of_experts(site, scaled.initializer)
            return stacked and stacked._replace(why=f"{stacked.why}; {scaled.why}")
        if isinstance(site.module, (nn.Linear, _ConvNd)) or site.path in layers:
            return layers.get(site.path, he) if len(site.shape) >= 2 else Choice(ZEROS, "bias")
        return _scalar(site)

    return {**torch_defaults(network), **each(network, choose)}


def _scaled(count: int, matrices: int) -> Choice | None:
    """What the layers before the last one of a branch get, which has that many matrices in a row."""
    if matrices == 1:
        return None
    scale = count ** (-1 / (2 * (matrices - 1)))
    initializer = KaimingNormal(mode="fan_out", nonlinearity=gain_of("relu") * scale)
    return Choice(initializer, f"residual branch of {matrices} layers, one of {count} branches")


def _heads(network: Network) -> frozenset[str]:
    """The layers that give the output: by the graph, or else the last linear layer.

    A layer that shares an embedding's weight is none of them: with input and output both 0, the
    model would not learn.
    """
    linear = [path for path, module in network.modules.items() if isinstance(module, nn.Linear)]
    tied = {site.path for site in network.sites if site.tied}
    return (network.graph.heads or frozenset(linear[-1:])) - tied


_BIAS = re.compile(r".*(?:bias|shift).*")
_SCALE = re.compile(r".*(?:scale|gain|mul).*")


def _scalar(site: Site) -> Choice | None:
    if not _is_scalar(site):
        return None
    if _BIAS.fullmatch(site.leaf):
        return Choice(ZEROS, "scalar bias")
    return Choice(ONES, "scalar multiplier") if _SCALE.fullmatch(site.leaf) else None


def _is_scalar(site: Site) -> bool:
    """Whether a parameter is a single number that a model adds to torch's own layers."""
    is_torchs = type(site.module).__module__.startswith("torch.nn.")
    return not is_torchs and all(size == 1 for size in site.shape)


_GAIN = re.compile(r"(?:(?:skip|skip_?init|branch|res|residual)_)?(?:gain|alpha|scale)\d*")
_REZERO = re.compile(r"(?:res_?weight|re_?zero|alpha)\w*")


@register_recipe("skipinit", source="De & Smith 2020, arXiv:2002.10444")
def skipinit(network: Network) -> Choices:
    """Sets the scalar at the end of each residual branch to 0. All else is as in the recipe resnet.

    The scalars are found by their names: ``alpha``, ``gain``, ``scale``, ``skip_gain`` and the like.

    Args:
        network: the model

    Returns:
        A choice for each parameter of a module that is known.

    Raises:
        ValueError: if there is no such scalar.

    References:
        De & Smith 2020, arXiv:2002.10444

    Example:
        >>> import pyinit, torch
        >>> from torch import nn
        >>> class Block(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.conv = nn.Conv2d(4, 4, 3, padding=1)
        ...         self.gain = nn.Parameter(torch.ones(()))
        ...
        ...     def forward(self, x):
        ...         return x + self.gain * self.conv(x).relu()
        >>> block = Block()
        >>> report = pyinit.initialize_(block, "skipinit", seed=0)
        >>> block.gain.item()
        0.0
    """
    named = "alpha, gain, scale, skip_gain, skipinit_gain"
    return {**resnet(network), **_zeros(network, "skipinit", _GAIN.fullmatch, named)}


@register_recipe("rezero", source="Bachlechner et al. 2020, arXiv:2003.04887")
def rezero(network: Network) -> Choices:
    """Sets the scalar at the end of each residual branch to 0. All else is as in the recipe torch.

    The scalars are found by their names: ``resweight``, ``rezero``, ``alpha`` and the like.

    Args:
        network: the model

    Returns:
        A choice for each parameter of a module that is known.

    Raises:
        ValueError: if there is no such scalar.

    References:
        Bachlechner et al. 2020, arXiv:2003.04887

    Example:
        >>> import pyinit, torch
        >>> from torch import nn
        >>> class Block(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.conv = nn.Conv2d(4, 4, 3, padding=1)
        ...         self.resweight = nn.Parameter(torch.ones(()))
        ...
        ...     def forward(self, x):
        ...         return x + self.resweight * self.conv(x).relu()
        >>> block = Block()
        >>> report = pyinit.initialize_(block, "rezero", seed=0)
        >>> block.resweight.item()
        0.0
    """
    named = "resweight, rezero, alpha"
    return {**torch_defaults(network), **_zeros(network, "rezero", _REZERO.fullmatch, named)}


def _zeros(
    network: Network, recipe: str, matches: Callable[[str], object], named: str
) -> dict[str, Choice]:
    found = {
        site.name: Choice(ZEROS, "scale of a residual branch")
        for site in network.sites
        if _is_scalar(site) and matches(site.leaf)
    }
    if not found:
        raise ValueError(
            f"recipe {recipe!r} found no scale of a residual branch: it looks for parameters of one "
            f"element named {named} or the like"
        )
    return found


# ---- Residual branches ---------------------------------------------------------------------------

_SHORTCUTS = ("downsample", "shortcut")
_CONV = re.compile(r"conv\d+")


def _branches(network: Network) -> tuple[Branch, ...]:
    """The residual branches: as a trace finds them, or without a trace by the names of ResNets."""
    graph = network.graph
    if graph.branches or graph.source != "module order":
        return graph.branches
    named = (_named(path, module) for path, module in network.modules.items())
    return tuple(branch for branch in named if branch.layers)


def _named(path: str, block: nn.Module) -> Branch:
    """The branch of a block with a shortcut, by the names of the layers in it.

    They are ``conv1``, ``bn1``, ``conv2``, ... in torchvision and timm. In transformers a ``layer``
    holds pairs of a convolution and a norm.
    """
    if not any(name in block._modules or name in block.__dict__ for name in _SHORTCUTS):
        return Branch(())
    inside = block._modules.get("layer")
    modules = inside.named_modules(prefix="layer") if inside else block.named_children()
    names = dict(modules)
    convolutions = [
        name
        for name, module in names.items()
        if isinstance(module, _ConvNd) and (inside or _CONV.fullmatch(name))
    ]
    if not convolutions:
        return Branch(())
    after = list(names)[list(names).index(convolutions[-1]) + 1 :]
    norm = next((name for name in after if "norm" in type(names[name]).__name__.lower()), None)
    prefix = path + "." if path else ""
    return Branch(tuple(prefix + name for name in convolutions), norm and prefix + norm)
