"""``pyinit verify``."""

from pathlib import Path

import click

from pyinit.cli import _console
from pyinit.distributed.verify import verify as verify_folder

_FAILED = 1


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
@click.pass_context
def verify(context: click.Context, *, folder: Path, as_json: bool) -> None:
    """Verify a checkpoint that `pyinit init --shards` wrote to FOLDER.

    Sizes, hashes and the index are compared with the manifest, pyinit.json, and every value is made again
    from the seed and compared. Neither a reference nor the model's code is needed. The exit status is 1 if
    anything differs.
    """
    with _console.progress() as bar:
        task = bar.add_task(f"verifying {folder}", total=None)
        found = verify_folder(
            folder,
            advance=lambda size: bar.advance(task, size),
            begin=lambda size: bar.update(task, total=size),
        )
    if as_json:
        _console.print_json(found.to_dict())
    else:
        for line in found.lines():
            _console.stdout(_console.WIDE).print(line, soft_wrap=True)
    if not found.is_sound:
        context.exit(_FAILED)
