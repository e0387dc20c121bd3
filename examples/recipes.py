"""Which recipe gives what: plan several of them for one model, and print them side by side.

    python examples/recipes.py

With ``dry_run=True`` nothing is written, so the model may be on the meta device, where it takes no memory.
"""

import torch

import pyinit
from pyinit.models.gpt2 import GPT2

RECIPES = ("torch", "kaiming", "gpt2", "auto")

with torch.device("meta"):
    model = GPT2(vocab=50257, context=1024, width=768, layers=12, heads=12)

reports = {name: pyinit.initialize_(model, name, seed=0, dry_run=True) for name in RECIPES}

names = [
    "transformer.wte.weight",
    "transformer.h.0.attn.c_proj.weight",
    "transformer.h.0.mlp.c_fc.weight",
    "transformer.h.0.mlp.c_proj.weight",
]
print(f"{'standard deviation aimed at':<36}", *(f"{name:>8}" for name in RECIPES))
for name in names:
    aims = (report[name].target_std for report in reports.values())
    print(f"{name:<36}", *(f"{aim:>8.4f}" for aim in aims))

print()
row = reports["gpt2"]["transformer.h.0.mlp.c_proj.weight"]
print(f"gpt2 gives {row.name} {row.initializer}: {row.why}")

differences = reports["gpt2"].diff(reports["auto"])
print(f"gpt2 and auto differ in {len(differences)} of {len(reports['gpt2'])} parameters")
