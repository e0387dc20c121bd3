"""Writes adjusted values: the only place where that is done, so that a replay gives the same bits."""

from hashlib import blake2b

import torch
from torch import Tensor

from pyinit._random.generators import seeded
from pyinit._random.rng import Key, stream_of
from pyinit._torch.digests import digest
from pyinit.reports.adjustment import Adjustment
from pyinit.whole_model.network import Site


def adjust_site_(site: Site, base: Tensor, adjustment: Adjustment) -> None:
    """Give a parameter the values of an adjustment of ``base``, through what it is computed from."""
    if site.computed is None:
        write_adjusted_(site.parameters[0], base, adjustment, site.weight.groups)
        return
    value = torch.empty_like(base)
    write_adjusted_(value, base, adjustment, site.weight.groups)
    set_site_(site, value)


def set_site_(site: Site, value: Tensor) -> None:
    """Give a computed parameter a value; what its parametrizations draw comes from its name."""
    assert site.computed is not None
    with torch.no_grad(), seeded(Key(0, stream_of(site.name)), value.device):
        site.computed.set_(value)


@torch.no_grad()
def write_adjusted_(target: Tensor, base: Tensor, adjustment: Adjustment, groups: int = 1) -> None:
    """Write ``base * scale + shift``, computed in float32 (float64 for float64) and rounded once.

    target: it may be ``base`` itself
    groups: those of a weight whose output channels stand in dim 1
    """
    wide = torch.float64 if target.dtype is torch.float64 else torch.float32
    out = target
    if target.dtype is not wide:
        out = torch.empty(target.shape, dtype=wide, device=target.device)
    out.copy_(base)
    scale, shift = adjustment.scale, adjustment.shift
    out.mul_(_along(out, scale, adjustment.dim, groups) if isinstance(scale, tuple) else scale)
    if isinstance(shift, tuple):
        # -0.0 is what changes nothing: 0.0 would turn a -0.0 into itself.
        out.add_(_along(out, tuple(each or -0.0 for each in shift), adjustment.dim, groups))
    elif shift:
        out.add_(shift)
    if out is not target:
        target.copy_(out)


def _along(like: Tensor, numbers: tuple[float, ...], dim: int, groups: int) -> Tensor:
    """Numbers of output channels in a shape that goes with a weight's."""
    each = torch.tensor(numbers, dtype=like.dtype, device=like.device)
    rest = [1] * (like.dim() - dim - 1)
    if dim == 0 or groups == 1:
        return each.view([1] * dim + [-1, *rest])
    by_group = each.view(groups, -1).repeat_interleave(like.shape[0] // groups, 0)
    return by_group.view(*by_group.shape, *rest)


def start_of(site: Site) -> int:
    """64 bits of what a parameter holds, or of what it is computed from."""
    found = [digest(tensor.detach().contiguous()) for tensor in site.parameters]
    if len(found) == 1:
        return found[0]
    hashed = blake2b(b"".join(each.to_bytes(8, "little") for each in found), digest_size=8)
    return int.from_bytes(hashed.digest(), "little")
