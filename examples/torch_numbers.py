"""An experiment from before pyinit: draw exactly the numbers that it began with.

    python examples/torch_numbers.py

The old experiment drew its weights by ``torch.nn.init`` from seed 7. The new code uses pyinit's functions,
and a column-major weight as well. Under ``rng("torch")`` both draw what torch drew.
"""

import torch

import pyinit

torch.manual_seed(7)
old = {
    "embedding": torch.nn.init.normal_(torch.empty(5000, 64), std=0.02),
    "weight": torch.nn.init.kaiming_uniform_(torch.empty(300, 200), a=5**0.5),
    "head": torch.nn.init.trunc_normal_(torch.empty(10, 300), std=0.02),
}
next_old = torch.rand(3)

torch.manual_seed(7)
with pyinit.rng("torch"):
    new = {
        "embedding": pyinit.normal_(torch.empty(5000, 64), std=0.02),
        "weight": pyinit.kaiming_uniform_(torch.empty(300, 200), a=5**0.5),
        "head": pyinit.trunc_normal_(torch.empty(10, 300), std=0.02),
    }
next_new = torch.rand(3)

for name, tensor in new.items():
    print(f"{name}: {'the same bits' if torch.equal(tensor, old[name]) else 'other numbers'}")
print(f"the generator goes on alike: {torch.equal(next_new, next_old)}")

torch.manual_seed(7)
pyinit.normal_(new["embedding"], std=0.02)
print(f"without rng('torch') they are alike: {torch.equal(new['embedding'], old['embedding'])}")
print(f"left to torch itself: {pyinit.info()['torch_fallbacks'] or 'nothing'}")
