"""The example of docs/scale.md, as torchrun starts it."""

import json
from pathlib import Path

from programs import run_python

import pyinit
from pyinit.models import build

TINY = {
    "vocab": 23,
    "width": 16,
    "hidden": 20,
    "layers": 2,
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 4,
}
PROGRAM = f"""
import json, os, sys
import torch
from torch.distributed.fsdp import fully_shard
import pyinit
from pyinit.models.llama import Llama

torch.set_num_threads(1)
torch.distributed.init_process_group("gloo")
with torch.device("meta"):
    model = Llama(**{TINY})
for layer in model.model.layers:
    fully_shard(layer)
fully_shard(model)
model.to_empty(device="cpu")
pyinit.initialize_(model, "llama", seed=0)
sums = {{name: p.full_tensor().double().sum().item() for name, p in model.named_parameters()}}
if torch.distributed.get_rank() == 0:
    with open(sys.argv[1], "w") as file:
        json.dump(sums, file)
torch.distributed.destroy_process_group()
os._exit(0)  # at an ordinary end, a thread of torch's aborts the process now and then
"""


def test_under_torchrun_a_model_is_the_plain_one(tmp_path: Path) -> None:
    program, sums = tmp_path / "program.py", tmp_path / "sums.json"
    program.write_text(PROGRAM)
    done = run_python(
        *("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *(str(program), str(sums)),
        OMP_NUM_THREADS="1",
        GLOO_SOCKET_IFNAME="lo",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    plain = build("llama-1b", **TINY)
    pyinit.initialize_(plain, "llama", seed=0)
    expected = {name: p.detach().double().sum().item() for name, p in plain.named_parameters()}
    assert json.loads(sums.read_text()) == expected
