"""The command ``pyinit``: one file per subcommand."""

import click

from pyinit.cli.bench import bench
from pyinit.cli.check import check
from pyinit.cli.compare import compare
from pyinit.cli.info import info
from pyinit.cli.init import init
from pyinit.cli.inspect import inspect
from pyinit.cli.run import run
from pyinit.cli.verify import verify


@click.group()
@click.version_option(package_name="pyinit", prog_name="pyinit")
def main() -> None:
    """Fast, reproducible weight initialization for PyTorch."""


main.add_command(info)
main.add_command(init)
main.add_command(bench)
main.add_command(check)
main.add_command(inspect)
main.add_command(compare)
main.add_command(run)
main.add_command(verify)
