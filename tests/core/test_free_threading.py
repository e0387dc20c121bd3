"""Many threads of Python at once, with and without its global lock."""

import sysconfig

import pytest
from programs import json_of, output_of

from pyinit import _core

EVERYTHING_BY_THREADS = """
    import hashlib, json, sys, threading
    import torch
    from torch import nn
    import pyinit
    from pyinit import _core, fill, functional as F
    from pyinit.inspection.statistics import describe
    from pyinit._functional import geometry
    from pyinit._random.rng import has_stateless

    torch.set_num_threads(2)
    _core.set_threads_at_any_loss(True)
    DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

    def seeded():
        return torch.Generator().manual_seed(7)

    def numbers(*shape):
        return fill.normal(torch.empty(shape), key=sum(shape))

    def quick_fills():
        g = seeded()
        return [f(torch.empty(n, dtype=d), generator=g) for f in (pyinit.uniform_, pyinit.normal_, pyinit.trunc_normal_)
                for d in DTYPES for n in (5, 3000, 70_000)]

    def torchs_numbers():
        g = seeded()
        with pyinit.rng("torch"):
            return [f(torch.empty(40, 70, dtype=d), generator=g) for d in DTYPES
                    for f in (pyinit.uniform_, pyinit.normal_, pyinit.trunc_normal_, pyinit.kaiming_uniform_)]

    def torchs_stateless_numbers():
        if not has_stateless():
            return []
        from torch.func import _random

        key = _random.key(3)
        return [pyinit.normal_(torch.empty(100, dtype=d), generator=key) for d in DTYPES]

    def matrices():
        g = seeded()
        return [pyinit.orthogonal_(torch.empty(60, 50, dtype=d), generator=g) for d in (torch.float32, torch.float64)]

    def convolutions():
        outs = []
        for c in range(1, 6):
            x, w, b = numbers(2, c, 9, 9), numbers(2 * c, c, 3, 3), numbers(2 * c)
            outs += [F.conv2d(x, w, b, padding=1, activation="relu"), F.conv2d(x, F.pack_weight(w), stride=2),
                     F.conv_transpose2d(x, w.transpose(0, 1).contiguous()), F.conv1d(x[:, :, 0], w[:, :, 0], padding="same"),
                     F.im2col(x, 3)]
        return outs

    def gradients():
        grads = []
        for c in range(1, 6):
            x, w = numbers(2, c, 8, 8).requires_grad_(), numbers(4, c, 3, 3).requires_grad_()
            out = F.conv2d(x, w, activation="tanh")
            grads += torch.autograd.grad(out.square().sum(), (x, w))
        return grads

    def activations():
        x = numbers(3, 4000)
        return [getattr(F, name)(x) for name in ("relu", "elu", "gelu", "silu", "sigmoid", "tanh", "softplus")] + [F.softmax(x, 1)]

    def gains():
        asked = ["relu", "tanh", "selu", torch.sin, nn.GELU(), nn.SiLU(), nn.Softplus(beta=2), nn.functional.mish]
        return [torch.tensor([pyinit.calculate_gain(a) for a in asked], dtype=torch.float64)]

    def models():
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GELU(), nn.Flatten(), nn.Linear(288, 9), nn.Tanh(), nn.Linear(9, 4))
        outs = []
        for recipe in ("auto", "torch", "xavier", "orthogonal"):
            pyinit.initialize_(model, recipe, seed=3)
            outs += [p.detach().clone() for p in model.parameters()]
        return outs

    def statistics():
        return [torch.tensor(describe(numbers(20, 3000)).std)]

    WORK = (quick_fills, torchs_numbers, torchs_stateless_numbers, matrices, convolutions, gradients, activations, gains,
            models, statistics)

    def digest(tensors):
        digest = hashlib.sha256()
        for tensor in tensors:
            digest.update(tensor.detach().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    count, rounds = int(sys.argv[1]), int(sys.argv[2])
    sys.setswitchinterval(1e-5)
    start, end, found, failures = threading.Barrier(count + 1), threading.Event(), set(), []

    def work(first):
        start.wait()
        try:
            for i in range(first, first + rounds * len(WORK)):
                one = WORK[i % len(WORK)]
                found.add((one.__name__, digest(one())))
        except Exception as error:
            failures.append(repr(error))

    def forget():
        start.wait()
        while not end.wait(0.001):
            _core.convolution_plans.clear()
            geometry.plan_of.cache_clear()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(count)]
    forgetting = threading.Thread(target=forget)
    for thread in (*threads, forgetting):
        thread.start()
    for thread in threads:
        thread.join()
    end.set()
    forgetting.join()
    assert not failures, failures
    print(json.dumps(sorted(found)))
"""


def test_threads_that_use_everything_for_the_first_time_get_what_one_thread_gets() -> None:
    """Each thread begins with another kind of call, while one more empties the caches of plans."""
    alone = json_of(EVERYTHING_BY_THREADS, "1", "1", timeout=300)
    assert len(alone) == 10
    assert json_of(EVERYTHING_BY_THREADS, "10", "2", timeout=300) == alone


@pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="needs Python without its global lock"
)
def test_the_global_lock_stays_off() -> None:
    """A module that does not declare that it needs no lock turns it on, with a warning."""
    output_of(
        f"""
        import sys
        from importlib.util import module_from_spec, spec_from_file_location
        spec = spec_from_file_location("_core", {_core.__file__!r})
        spec.loader.exec_module(module_from_spec(spec))
        assert not sys._is_gil_enabled()
        """,
        PYTHON_GIL=None,
    )
