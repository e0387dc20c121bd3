"""A checkpoint made in parts: write the shards of a model, and check them against the whole.

    python examples/sharded_checkpoint.py

One call writes three files, and several processes that are given the same folder share them out. None of
them ever holds the whole model. ``pyinit verify`` makes the values again and compares.
"""

import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

import pyinit
from pyinit.models import build

FOLDER = Path("checkpoint")
COMMAND = [sys.executable, "-m", "pyinit"]
MODEL = ["init", "lenet5", "--recipe", "kaiming", "--seed", "0"]

subprocess.run([*COMMAND, *MODEL, "--shards", "3", "--out", str(FOLDER)], check=True)

files = sorted(FOLDER.glob("*.safetensors"))
print(f"{len(files)} shards:", ", ".join(file.name for file in files))

model = build("lenet5")
pyinit.initialize_(model, "kaiming", seed=0)
whole = dict(model.named_parameters())
parts = {name: tensor for file in files for name, tensor in load_file(file).items()}
same = sum(torch.equal(tensor, whole[name]) for name, tensor in parts.items())
print(f"{same} of {len(whole)} tensors are those that one process gives the whole model")

verified = subprocess.run([*COMMAND, "verify", str(FOLDER)], check=False)
print(f"pyinit verify ended with status {verified.returncode}")
