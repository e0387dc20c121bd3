"""Reproduce a paper's comparison

He et al. (2015, figure 3) train a plain network of 30 layers with ReLU from their own start and
from Xavier's: the one learns, the other does not move. One of pyinit's studies repeats this on
small data. The tutorial runs it, and then asks what the paper does not show. It takes about a
minute on a laptop:

```sh
pip install ".[study]" "torch==2.13.0"
python examples/tutorials/reproduce_a_comparison.py
```

The page is made from [the script](../../examples/tutorials/reproduce_a_comparison.py), and shows
what it prints.
"""

# %% The study
# A study is a file that names a model, data, starts and claims; `pyinit compare --list` lists
# those that pyinit brings. This one has two factors, the kind of network and the activation. The
# part that is of interest here is the chain of linear layers with ReLU, which stands for the
# paper's convolutions, and two of the three starts.
from dataclasses import replace

import matplotlib.pyplot as plt

import pyinit

whole = pyinit.Study.load("variance-by-depth")
print(whole.question)

place = {"network": "mlp", "activation": "relu"}
claims = [claim for claim in whole.claims if claim.where == place]
study = replace(
    whole,
    arms={name: whole.arms[name] for name in ("he", "xavier")},
    factors={name: [value] for name, value in place.items()},
    claims=claims,
)
for claim in claims:
    print("-", claim.text)

# %% The verdicts
# Each of five seeds trains both networks from the same draws and on the same batches. The paper's
# claims are judged by the differences between the two; a claim is held only if chance is
# excluded. (On the command line, `pyinit compare variance-by-depth` runs the whole study and
# writes a report.)
result = study.run(jobs=1)
for verdict in result.verdicts:
    print(f"{verdict.outcome}: {verdict}")

# %% The cause
# The claims name the cause as well: by Xavier's rule each ReLU halves the variance of the
# signals. The runs have recorded it at the start. Thin lines are single seeds, and the dashed
# line is that of theory, a factor of 2 a layer.
layers = result.to_frame("layers")
start = layers[(layers.step == 0) & layers.gradient_norm.notna()]  # those with weights
figure, axes = plt.subplots()
for arm, colour in (("he", "C0"), ("xavier", "C1")):
    for seed, rows in start[start.arm == arm].groupby("seed"):
        values = list(rows.variance)
        axes.semilogy(
            range(1, len(values) + 1), values, colour, alpha=0.5, label=arm if seed == 0 else None
        )
axes.semilogy(
    range(1, 31), [values[0] / 2**i for i in range(30)], "C7--", label="halved by each layer"
)
axes.set_title("Variance at the start")
axes.set_xlabel("layer")
axes.legend(loc="lower left")
title = (
    "Variance of the layers' outputs by depth: from he it stays, from xavier each layer halves it"
)
figure.savefig("he-variance.svg", metadata={"Title": title})

# %% Where does it end?
# A network of 30 layers was chosen so that the difference shows. A factor of the study that
# varies tells from which depth on it is there: here the same claim is made of three depths.
# `replace` makes a new study, which could be saved as a file of its own by `study.to_toml()`.
(claim,) = (claim for claim in claims if claim.better)
depths = [4, 10, 20]
wider = replace(
    study,
    arguments={},
    factors={**study.factors, "depth": depths},
    claims=[replace(claim, where={**place, "depth": depth}) for depth in depths],
)
wider_result = wider.run(jobs=1)
for depth, verdict in zip(depths, wider_result.verdicts, strict=True):
    print(f"{depth} layers, {verdict.outcome}: {verdict}")

# %% The losses
# With ten layers the factor of 2 is soon made up for, and with twenty it is not: so a comparison
# of starts on a small network can miss what decides in a larger one. The pictures have the mean
# training loss over the seeds, for the two ends.
figure, both = plt.subplots(2, 1, figsize=(5.2, 5.2), sharex=True, sharey=True)
for axes, runs, depth in ((both[0], wider_result, 4), (both[1], result, 30)):
    steps = runs.to_frame("steps")
    if "depth" in steps:
        steps = steps[steps.depth == depth]
    for arm, rows in steps.groupby("arm"):
        axes.plot(rows.groupby("step").loss.mean(), label=arm)
    axes.set_title(f"Training loss, {depth} layers")
both[0].legend()
both[1].set_xlabel("step")
title = "Mean training loss by he and xavier: at 4 layers both learn, at 30 layers only he does"
figure.savefig("he-losses.svg", metadata={"Title": title})
