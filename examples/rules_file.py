"""An initialization as a file: write rules, see what they would do, and initialize by them.

    python examples/rules_file.py

The file can be kept beside the model's configuration. It names a recipe for what no rule matches.
"""

from pathlib import Path

from torch import nn

import pyinit

FILE = Path("start.toml")
FILE.write_text(
    """\
recipe = "kaiming"

[[rules]]  # the last layer starts small, so that the first loss is near that of guessing
name = "head.weight"
init = "normal"
std = 0.001

[[rules]]  # all embeddings
type = "Embedding"
init = {name = "trunc_normal", std = 0.02}

[[rules]]  # what another program has set already
name = "scale"
init = "keep"
optional = true
"""
)


class Bag(nn.Module):
    """Classifies bags of words."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(1000, 64, padding_idx=0)
        self.body = nn.Sequential(nn.Linear(64, 64), nn.ReLU())
        self.head = nn.Linear(64, 4)


model = Bag()
plan = pyinit.initialize_(model, FILE, seed=0, dry_run=True)
for row in plan:
    print(f"{row.name}: {row.initializer}, since {row.why}")

report = pyinit.initialize_(model, FILE, seed=0)
print(f"head.weight has a standard deviation of {report['head.weight'].std:.4f}")
print(f"the row for padding is zero: {not model.words.weight[0].any()}")
