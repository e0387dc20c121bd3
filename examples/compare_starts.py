"""A start of your own against known ones: a small study with a claim.

    python examples/compare_starts.py

The claims are written down before anything is trained, and judged by the differences of the seeds. The
report, a page for a browser, has the learning curves and what the layers do, too.
"""

from torch import nn

import pyinit
from pyinit.studies import Claim, Training


def network(depth: int = 6) -> nn.Sequential:
    """A chain of layers with tanh."""
    hidden = [part for _ in range(depth) for part in (nn.Linear(64, 64), nn.Tanh())]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(64, 10))


def identities(model: nn.Module) -> None:
    """The start to be tried: every square layer passes on what it gets."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.eye_(module.weight)
            nn.init.zeros_(module.bias)


study = pyinit.Study(
    network,
    "digits",
    {"identities": identities, "xavier": "xavier", "torch": "torch"},
    seeds=5,
    steps=40,
    training=Training(lr=0.1, batch_size=64),
    claims=[
        Claim("accuracy", better="xavier", than="torch", text="Xavier beats torch's default."),
        Claim("accuracy", better="identities", than="xavier", text="Identities beat Xavier."),
    ],
)
result = study.run(jobs=1)
for verdict in result.verdicts:
    print(f"{verdict.claim.text} {verdict.outcome}")
    print(f"  {verdict}")
result.save("report.html")
