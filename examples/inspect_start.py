"""What a language model does before its first step: inspect it, and mend what is found.

    python examples/inspect_start.py

The head shares the embedding's weight, which ``nn.Embedding`` draws from N(0, 1). That is far too large for
a head: the first loss is many times the logarithm of the number of words, which is that of guessing.
"""

import math

import torch
from torch import Tensor, nn

import pyinit

WORDS, WIDTH = 500, 64


class Model(nn.Module):
    """A transformer of two layers with a tied head."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, WIDTH)
        layers = [
            nn.TransformerEncoderLayer(WIDTH, 4, 128, 0.0, batch_first=True, norm_first=True)
            for _ in range(2)
        ]
        self.layers = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, WORDS, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, words: Tensor) -> Tensor:
        return self.head(self.norm(self.layers(self.embedding(words))))


torch.manual_seed(0)
text = torch.randint(WORDS, (16, 33))
words, following = text[:, :-1], text[:, 1:]
model = Model()

print(f"the loss of guessing is {math.log(WORDS):.1f}")
report = pyinit.inspect(model, words, following)
print(f"as torch's constructors leave it, the model starts at {report.losses[0]:.1f}")
for finding in report.findings:
    print(finding)

pyinit.initialize_(model, "gpt2", seed=0)
report = pyinit.inspect(model, words, following)
print(f"from the recipe gpt2 it starts at {report.losses[0]:.1f}, and inspect finds", end=" ")
print(", ".join(map(str, report.findings)) or "nothing")
