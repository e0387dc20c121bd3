"""What training does to each layer: watch the same network under two learning rates.

    python examples/monitor_training.py

With the larger rate the updates are so long that units of ReLU die in the first steps: they are zero for
every sample, get no gradient, and never come back.
"""

import torch
from torch import nn

import pyinit
from pyinit.datasets import load

STEPS = 60

data = load("digits").split()[0]

for rate in (0.1, 3.0):
    model = nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 128),
        nn.ReLU(),
        nn.Linear(128, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )
    start = pyinit.initialize_(model, "kaiming", seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    with pyinit.Monitor(model, optimizer, every=20, start=start) as monitor:
        for step in range(STEPS + 1):
            batch = data.batch(64, seed=step)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(batch.inputs), batch.target).backward()
            optimizer.step()
    monitor.save(f"rate-{rate}.csv")
    print(f"learning rate {rate}")
    for record in monitor.records:
        if record.layer == "4":  # the last activation
            print(f"  step {record.step:>2}: {record.dead:4.0%} of its units are dead")
    moved = max(r.distance for r in monitor.records if r.step == STEPS and r.distance is not None)
    print(f"  the layer that moved most is {moved:.0%} of its size from where it started")
