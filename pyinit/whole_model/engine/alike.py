"""What the ranks of a mesh must have alike before a plan is carried out."""

from collections.abc import Sequence

from pyinit._random.rng import Key, Source, get_rng
from pyinit._sharding.agreement import agree
from pyinit._torch.placement import is_dtensor
from pyinit.initializers import Drawn
from pyinit.whole_model.engine.plan import Entry
from pyinit.whole_model.recipes.registry import Recipe
from pyinit.whole_model.rules import Rules


def agree_on(
    plan: Sequence[Entry],
    sources: Sequence[Source],
    recipe: Recipe,
    rules: Rules,
    seed: int | None,
) -> None:
    """Have the ranks of each mesh compare what they are about to do; without DTensors it does nothing.

    sources: where each entry's numbers come from

    Raises:
        ValueError, RuntimeError: as ``agree``.
    """
    agree(
        "initialize_",
        {
            **_source(sources, seed),
            "rng": get_rng(),
            "recipe": str(recipe),
            "rules": "; ".join(map(str, rules)) or "none",
        },
        (
            (name, tensor, _filling(entry))
            for entry in plan
            if entry.view is None and not entry.is_kept  # with a view it is plain memory
            for name, tensor in entry.site.named_parameters
            if is_dtensor(tensor)
        ),
    )


def _source(sources: Sequence[Source], seed: int | None) -> dict[str, str]:
    if seed is not None:
        return {"seed": str(seed)}
    keys = {source[0] for source in sources if type(source) is Key}
    drawn = ", ".join(f"{key:#x}" for key in keys)
    return {"the key drawn from the generator (seed= gives all ranks the same)": drawn}


def _filling(entry: Entry) -> str:
    """An initializer, and what it comes down to in this parameter."""
    if isinstance(entry.initializer, Drawn):
        return str(entry.initializer)
    blocks = (
        f"{block.drawn}" + ("" if block.rows is None else f" in rows {block.rows}")
        for block in entry.blocks
    )
    return f"{entry.initializer}: {', '.join(blocks)}" if entry.blocks else str(entry.initializer)
