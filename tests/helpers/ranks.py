"""Programs that run as the ranks of a process group, on loopback."""

import json
import os
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

_BEFORE = """
import json, os, sys
import torch, torch.distributed as dist
torch.set_num_threads(1)
rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
dist.init_process_group("gloo")
found = {}

def raised(function, *arguments, **options):
    \"\"\"What a call raises, as text; "" if it returns.\"\"\"
    try:
        function(*arguments, **options)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""

"""

_AFTER = """
with open(sys.argv[1], "w") as file:
    json.dump(found, file)
dist.destroy_process_group()
"""


def run_ranks(program: str, size: int, folder: Path, timeout: float = 120) -> list[Any]:
    """What each rank has put into ``found``; in the program, ``rank``, ``size``, ``raised`` and gloo are there.

    None of the processes is left, whatever happens.
    """
    source = _BEFORE + textwrap.dedent(program) + _AFTER
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    variables = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(size),
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
    }
    files = [folder / f"rank{rank}.json" for rank in range(size)]
    end = time.monotonic() + timeout
    with (folder / "said.txt").open("w+") as said:
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", source, str(file)],
                cwd=folder,  # not a checkout, whose sources may have no kernels
                env={**variables, "RANK": str(rank)},
                stdout=said,
                stderr=said,
            )
            for rank, file in enumerate(files)
        ]
        try:
            codes = [process.wait(max(0.0, end - time.monotonic())) for process in processes]
        except subprocess.TimeoutExpired:
            codes = [-1]
        finally:
            for process in processes:
                process.kill()
                process.wait()
        said.seek(0)
        assert not any(codes), f"exit codes {codes}:\n{said.read()}"
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]
