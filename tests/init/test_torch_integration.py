"""How the initializers stand among torch's machinery: autograd, modes, compilation, workers."""

import hashlib
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from datasets_of_workers import Draws
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader

import pyinit
from pyinit import init

ARGUMENTS = {"constant_": (0.5,), "sparse_": (0.5,)}
INITIALIZERS = [name for name in init.__all__ if name.endswith("_")]
TORCH_INITIALIZERS = [name for name in INITIALIZERS if hasattr(torch.nn.init, name)]
SEEDED = [
    name
    for name in INITIALIZERS
    if name not in {"constant_", "ones_", "zeros_", "eye_", "dirac_", "hadamard_"}
]
ELEMENTWISE = ["uniform_", "normal_", "trunc_normal_", "constant_", "ones_", "zeros_"]


def shape_for(name: str) -> tuple[int, ...]:
    return (6, 4, 3) if name.startswith(("dirac", "delta")) else (6, 4)


def call(name: str, tensor: torch.Tensor, module=pyinit, **kwargs) -> torch.Tensor:
    return apply(getattr(module, name), name, tensor, **kwargs)


def apply(function, name: str, tensor: torch.Tensor, **kwargs) -> torch.Tensor:
    if name == "orthogonal_many_":
        return function([tensor], **kwargs)[0]
    return function(tensor, *ARGUMENTS.get(name, ()), **kwargs)


def seeded(name: str, tensor: torch.Tensor, seed: int = 1) -> torch.Tensor:
    torch.manual_seed(seed)
    return call(name, tensor)


@pytest.mark.parametrize("name", SEEDED)
def test_manual_seed_governs(name):
    first, again, other = (seeded(name, torch.empty(shape_for(name)), seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("name", SEEDED)
def test_a_given_generator_governs(name):
    generator = torch.Generator().manual_seed(1)
    first = call(name, torch.empty(shape_for(name)), generator=generator)
    second = call(name, torch.empty(shape_for(name)))
    assert torch.equal(first, seeded(name, torch.empty(shape_for(name))))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("name", INITIALIZERS)
def test_parameter_keeps_no_history(name):
    weight = nn.Parameter(torch.empty(shape_for(name)))
    call(name, weight)
    assert weight.is_leaf
    assert weight.requires_grad
    assert weight.grad_fn is None


@pytest.mark.parametrize("name", INITIALIZERS)
def test_non_leaf_keeps_the_history_it_has(name):
    leaf = torch.ones(shape_for(name), requires_grad=True)
    result = leaf * 2
    history = result.grad_fn
    call(name, result)
    assert result.grad_fn is history
    result.sum().backward()
    assert torch.equal(leaf.grad, torch.full(shape_for(name), 2.0))


@pytest.mark.parametrize("name", INITIALIZERS)
def test_version_counter_notices_the_write(name):
    weight = nn.Parameter(torch.ones(shape_for(name)))
    view = weight.detach()
    loss = weight.square().sum()
    call(name, view)
    assert weight._version == view._version > 0
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("name", INITIALIZERS)
def test_inference_tensor_is_refused_outside_inference_mode_as_torch(name):
    with torch.inference_mode():
        tensor = torch.ones(shape_for(name))
    with pytest.raises(RuntimeError, match="Inplace update to inference tensor"):
        call(name, tensor)
    assert (tensor == 1).all()


@pytest.mark.parametrize("name", INITIALIZERS)
def test_inference_mode_changes_no_number(name):
    expected = seeded(name, torch.empty(shape_for(name)))
    plain = torch.empty(shape_for(name))
    with torch.inference_mode():
        assert torch.equal(seeded(name, torch.empty(shape_for(name))), expected)
        assert torch.equal(seeded(name, plain), expected)
    assert plain._version > 0


class Recorded(torch.Tensor):
    """A subclass that writes down which functions it is asked for."""

    seen: list = []  # noqa: RUF012

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        cls.seen.append(func)
        return super().__torch_function__(func, types, args, kwargs or {})


@pytest.mark.parametrize("name", TORCH_INITIALIZERS)
def test_subclass_sees_what_torch_would_show_it(name):
    def seen_by(module):
        Recorded.seen = []
        tensor = torch.ones(shape_for(name)).as_subclass(Recorded)
        torch.manual_seed(1)
        result = call(name, tensor, module)
        functions, Recorded.seen = Recorded.seen, []
        return [getattr(f, "__qualname__", str(f)) for f in functions], result

    ours, filled = seen_by(pyinit)
    theirs, expected = seen_by(torch.nn.init)
    assert ours == theirs
    assert type(filled) is Recorded
    assert torch.equal(filled.as_subclass(torch.Tensor), expected.as_subclass(torch.Tensor))


@pytest.mark.parametrize(
    "name", ["xavier_uniform_", "kaiming_normal_", "lecun_normal_", "orthogonal_"]
)
def test_subclass_is_filled_by_torch_with_pyinits_own_arguments_too(name):
    tensor = torch.full((6, 4, 3), 7.0).as_subclass(Recorded)
    Recorded.seen = []
    assert getattr(pyinit, name)(tensor, groups=2) is tensor
    assert Recorded.seen
    assert not (tensor.as_subclass(torch.Tensor) == 7).any()


class RecordingFunctions(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.seen.append(func)
        return func(*args, **(kwargs or {}))


class RecordingOperators(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.append(func)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("mode", [RecordingFunctions, RecordingOperators])
@pytest.mark.parametrize("name", TORCH_INITIALIZERS)
def test_torch_modes_see_what_torch_would_show_them(name, mode):
    def under_mode(module):
        torch.manual_seed(1)
        tensor = torch.ones(shape_for(name))
        with mode() as recording:
            call(name, tensor, module)
        return [str(function) for function in recording.seen], tensor

    ours, filled = under_mode(pyinit)
    theirs, expected = under_mode(torch.nn.init)
    if name in {"uniform_", "normal_", "constant_", "kaiming_uniform_"}:
        assert ours == theirs
    assert set(theirs) <= set(ours)
    assert torch.equal(filled, expected)


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("name", INITIALIZERS)
def test_device_context_changes_no_number(name, device):
    """It redirects where new tensors are made, not what is written into one that exists."""
    tensor = torch.empty(shape_for(name))
    expected = seeded(name, torch.empty(shape_for(name)))
    with torch.device(device):
        assert torch.equal(seeded(name, tensor), expected)


@pytest.mark.parametrize("name", INITIALIZERS)
def test_meta_tensor_is_left_alone(name):
    state = torch.get_rng_state()
    with torch.device("meta"):
        tensor = torch.empty(shape_for(name))
        assert call(name, tensor) is tensor
    assert call(name, tensor) is tensor
    assert tensor.is_meta
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: torch.ones(4, 4, dtype=torch.int32), id="int"),
        pytest.param(lambda: torch.ones(4, 4, dtype=torch.bool), id="bool"),
        pytest.param(lambda: torch.ones(4, 4, dtype=torch.complex64), id="complex"),
        pytest.param(lambda: torch.ones(4, 4, dtype=torch.float8_e4m3fn), id="float8"),
        pytest.param(lambda: torch.eye(4).to_sparse(), id="coo"),
        pytest.param(lambda: torch.eye(4).to_sparse_csr(), id="csr"),
        pytest.param(lambda: torch.eye(4).to_mkldnn(), id="mkldnn"),
        pytest.param(lambda: torch.eye(4)._neg_view(), id="negative"),
        pytest.param(lambda: torch.ones(4, 4, dtype=torch.cfloat).conj().imag, id="imaginary"),
        pytest.param(lambda: torch._efficientzerotensor(4, 4), id="zero"),
        pytest.param(lambda: torch.ones(20).as_strided((4, 4), (2, 1)), id="overlapping"),
        pytest.param(
            lambda: torch.quantize_per_tensor(torch.ones(4, 4), 0.1, 0, torch.qint8),
            id="quantized",
        ),
    ],
)
@pytest.mark.parametrize("name", [name for name in TORCH_INITIALIZERS if name != "dirac_"])
def test_kinds_that_are_not_native_behave_as_torch(name, make):
    def outcome(module):
        torch.manual_seed(1)
        tensor = make()
        try:
            call(name, tensor, module)
        except Exception as error:  # noqa: BLE001
            return type(error), str(error)
        dense = tensor.to_dense() if tensor.layout is not torch.strided else tensor
        return (dense.dequantize() if dense.is_quantized else dense).resolve_neg().tolist()

    assert outcome(pyinit) == outcome(torch.nn.init)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_nested_tensors_go_to_torch(name):
    def outcome(module):
        torch.manual_seed(1)
        nested = torch.nested.nested_tensor([torch.full((3,), 7.0), torch.full((5,), 7.0)])
        try:
            call(name, nested, module)
        except Exception as error:  # noqa: BLE001
            return type(error), str(error)
        return [part.tolist() for part in nested.unbind()]

    assert outcome(pyinit) == outcome(torch.nn.init)


@pytest.mark.parametrize("randomness", ["error", "same", "different"])
def test_vmap_treats_random_fills_as_torchs(randomness):
    def outcome(module):
        def inner(x):
            return x + module.normal_(torch.empty(3))

        torch.manual_seed(1)
        try:
            return torch.vmap(inner, randomness=randomness)(torch.zeros(4, 3)).tolist()
        except RuntimeError as error:
            return str(error)

    assert outcome(pyinit) == outcome(torch.nn.init)


@pytest.mark.parametrize("name", ["normal_", "kaiming_uniform_", "zeros_", "trunc_normal_"])
def test_func_grad_refuses_a_captured_tensor_as_torch(name):
    def outcome(module):
        captured = torch.ones(3, 3)

        def inner(x):
            return (x * call(name, captured, module)).sum()

        with pytest.raises(RuntimeError) as refused:
            torch.func.grad(inner)(torch.ones(3, 3))
        assert (captured == 1).all()
        return str(refused.value)

    assert outcome(pyinit) == outcome(torch.nn.init)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_jit_trace_records_the_fill():
    traced = torch.jit.trace(lambda x: pyinit.normal_(x.clone()), torch.zeros(3), check_trace=False)
    first, second = traced(torch.zeros(3)), traced(torch.zeros(3))
    assert not torch.equal(first, second)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", INITIALIZERS)
def test_compiled_code_gets_the_same_numbers(name, compiler):
    def program(shape):
        weight = torch.ones(shape) * 2
        call(name, weight)
        return weight + 1

    torch.manual_seed(1)
    expected = program(shape_for(name))
    compiled = compiler(program)
    for _ in range(2):
        torch.manual_seed(1)
        assert torch.equal(compiled(shape_for(name)), expected)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", INITIALIZERS)
def test_an_initializer_may_itself_be_compiled(name, compiler):
    compiled = compiler(getattr(pyinit, name))
    torch.manual_seed(1)
    weight = apply(compiled, name, torch.empty(shape_for(name)))
    assert torch.equal(weight, seeded(name, torch.empty(shape_for(name))))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiler_never_looks_inside(compiler):
    torch._dynamo.utils.counters.clear()

    def program(weight):
        weight = weight * 2
        pyinit.kaiming_uniform_(weight)
        return weight + 1

    compiler(program)(torch.ones(6, 4))
    counters = torch._dynamo.utils.counters
    assert counters["frames"]["total"] == 2  # the two halves of the program
    assert sum(counters["graph_break"].values()) == 1


def test_skip_init_leaves_the_filling_to_us():
    layer = torch.nn.utils.skip_init(nn.Linear, 4, 6)
    expected = seeded("kaiming_uniform_", torch.empty(6, 4))
    assert torch.equal(seeded("kaiming_uniform_", layer.weight), expected)


@pytest.mark.parametrize("name", INITIALIZERS)
def test_threads_of_python_fill_as_one_would(name):
    """Many tensors at once, each with a generator of its own where it draws."""
    sizes = [1, 17, 64, 300, 513] * 4

    def fill(index: int) -> torch.Tensor:
        shape = (sizes[index], *shape_for(name)[1:])
        if name == "delta_orthogonal_":
            shape = (max(shape[0], 4), *shape[1:])
        kwargs = {"generator": torch.Generator().manual_seed(index)} if name in SEEDED else {}
        return call(name, torch.empty(shape), **kwargs)

    serial = [fill(index) for index in range(len(sizes))]
    gate = threading.Barrier(5)

    def work(worker: int) -> list[torch.Tensor]:
        gate.wait()
        return [fill(index) for index in range(worker, len(sizes), 5)]

    with ThreadPoolExecutor(5) as pool:
        for worker, filled in enumerate(pool.map(work, range(5))):
            for index, tensor in zip(range(worker, len(sizes), 5), filled, strict=True):
                assert torch.equal(tensor, serial[index])


@pytest.mark.parametrize(
    "name", ["uniform_", "normal_", "trunc_normal_", "sparse_", "dirac_", "orthogonal_"]
)
def test_thread_count_changes_no_bit(name, set_threads):
    shape = (700, 30, 30) if name == "dirac_" else (1000, 630)
    digests = set()
    for threads in (1, 2, 3, 8):
        set_threads(threads)
        filled = seeded(name, torch.empty(shape))
        digests.add(hashlib.sha256(filled.numpy().tobytes()).hexdigest())
    assert len(digests) == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_data_loader_workers_draw_by_their_seed(context):
    pyinit.normal_(torch.empty(1 << 20))  # the parent has used its threads
    loader = DataLoader(
        Draws(), batch_size=None, num_workers=2, multiprocessing_context=context, timeout=120
    )
    for process, seed, drawn in loader:
        assert process != os.getpid()
        assert torch.equal(drawn, seeded("normal_", torch.empty(20000), seed))


@pytest.mark.parametrize("name", INITIALIZERS)
def test_functions_pickle_by_name(name):
    assert pickle.loads(pickle.dumps(getattr(pyinit, name))) is getattr(pyinit, name)
