"""What torch refuses pyinit refuses, in the same words and before anything is written."""

import math
import warnings

import numpy as np
import pytest
import torch

import pyinit

NAN, INF = math.nan, math.inf
MATRIX, KERNEL = (4, 4), (4, 4, 3)

# name, shape, arguments
REFUSED_BY_TORCH = [
    ("uniform_", MATRIX, (1.0, 0.0)),
    ("uniform_", MATRIX, (NAN, 1.0)),
    ("uniform_", MATRIX, (0.0, NAN)),
    ("uniform_", MATRIX, (0, INF)),
    ("uniform_", MATRIX, (-INF, 0)),
    ("uniform_", MATRIX, (-3e38, 3e38)),
    ("uniform_", MATRIX, (1e39, 1e39)),
    ("uniform_", MATRIX, ("0", 1.0)),
    ("uniform_", MATRIX, (None,)),
    ("uniform_", MATRIX, (1j, 1.0)),
    ("uniform_", MATRIX, (0, 10**400)),
    ("uniform_", MATRIX, (torch.zeros(1), 1.0)),
    ("uniform_", MATRIX, (torch.tensor(0.5, requires_grad=True), 1.0)),
    ("uniform_", (0, 4), (1.0, 0.0)),
    ("normal_", MATRIX, (0.0, -1.0)),
    ("normal_", MATRIX, (0.0, NAN)),
    ("normal_", MATRIX, (0.0, -INF)),
    ("normal_", MATRIX, ("0", 1.0)),
    ("normal_", MATRIX, (0.0, [1.0])),
    ("normal_", (0, 4), (0.0, -1.0)),
    ("trunc_normal_", MATRIX, (0.0, 1.0, 2.0, -2.0)),
    ("trunc_normal_", MATRIX, (0.0, 1.0, 0.5, -0.5)),
    ("trunc_normal_", MATRIX, (0.0, 1.0, NAN, 1.0)),
    ("trunc_normal_", MATRIX, (0.0, 1.0, -1.0, NAN)),
    ("trunc_normal_", MATRIX, (0.0, 0.0, -1.0, 1.0)),
    ("trunc_normal_", MATRIX, (0.0, 1.0, 1e39, 1e40)),
    ("trunc_normal_", MATRIX, ("0",)),
    ("trunc_normal_", MATRIX, (0.0, "1")),
    ("trunc_normal_", MATRIX, (0.0, 1.0, None)),
    ("trunc_normal_", (0,), (0.0, 0.0, -1.0, 1.0)),
    ("constant_", MATRIX, (1e39,)),
    ("constant_", MATRIX, ("x",)),
    ("constant_", MATRIX, (None,)),
    ("constant_", MATRIX, (1 + 2j,)),
    ("constant_", MATRIX, (torch.zeros(1),)),
    ("constant_", MATRIX, (10**400,)),
    ("constant_", MATRIX, (10**30,)),
    ("constant_", MATRIX, ()),
    ("eye_", (4,), ()),
    ("eye_", KERNEL, ()),
    ("dirac_", MATRIX, ()),
    ("dirac_", (2, 2, 2, 2, 2, 2), ()),
    ("dirac_", KERNEL, (3,)),
    ("dirac_", KERNEL, (0,)),
    ("dirac_", KERNEL, ("2",)),
    ("dirac_", (4, 4, 0), ()),
    *((name, (4,), ()) for name in ("xavier_uniform_", "xavier_normal_")),
    *((name, (), ()) for name in ("xavier_uniform_", "xavier_normal_")),
    *((name, (0, 0), ()) for name in ("xavier_uniform_", "xavier_normal_")),
    *((name, (3, 3, 0), ()) for name in ("xavier_uniform_", "xavier_normal_")),
    *((name, MATRIX, ("x",)) for name in ("xavier_uniform_", "xavier_normal_")),
    *((name, MATRIX, (None,)) for name in ("xavier_uniform_", "xavier_normal_")),
    *((name, MATRIX, (-1.0,)) for name in ("xavier_uniform_", "xavier_normal_")),
    *((name, MATRIX, (NAN,)) for name in ("xavier_uniform_", "xavier_normal_")),
    ("xavier_uniform_", MATRIX, (INF,)),
    *((name, (4,), ()) for name in ("kaiming_uniform_", "kaiming_normal_")),
    *((name, (4,), (0, "x")) for name in ("kaiming_uniform_", "kaiming_normal_")),
    *((name, MATRIX, (0, "fan_avg")) for name in ("kaiming_uniform_", "kaiming_normal_")),
    *((name, MATRIX, (0, None)) for name in ("kaiming_uniform_", "kaiming_normal_")),
    *((name, MATRIX, (0, 3)) for name in ("kaiming_uniform_", "kaiming_normal_")),
    *((name, MATRIX, ("x",)) for name in ("kaiming_uniform_", "kaiming_normal_")),
    *((name, MATRIX, (True,)) for name in ("kaiming_uniform_", "kaiming_normal_")),
    *((name, MATRIX, (NAN,)) for name in ("kaiming_uniform_", "kaiming_normal_")),
    *((name, MATRIX, (1e200,)) for name in ("kaiming_uniform_", "kaiming_normal_")),
    *((name, MATRIX, (torch.ones(()),)) for name in ("kaiming_uniform_", "kaiming_normal_")),
    ("orthogonal_", (4,), ()),
    ("orthogonal_", (), ()),
    ("sparse_", (4,), (0.5,)),
    ("sparse_", KERNEL, (0.5,)),
    ("sparse_", MATRIX, (NAN,)),
    ("sparse_", MATRIX, (INF,)),
    ("sparse_", MATRIX, ("0.5",)),
    ("sparse_", MATRIX, (0.5, -1.0)),
    ("sparse_", MATRIX, (0.5, NAN)),
    ("sparse_", MATRIX, (0.5, "1")),
]
# torch refuses these too, but has written by then.
REFUSED_LATE_BY_TORCH = [
    ("dirac_", KERNEL, (2.0,)),
    ("orthogonal_", MATRIX, ("x",)),
    ("orthogonal_", MATRIX, (None,)),
    ("orthogonal_", MATRIX, (1j,)),
    ("orthogonal_", MATRIX, ([1.0],)),
    ("orthogonal_", MATRIX, (10**400,)),
    ("orthogonal_", MATRIX, (torch.ones(5),)),
    ("orthogonal_", MATRIX, (torch.ones(4, dtype=torch.cfloat),)),
]
DRAWING = [
    ("uniform_", ()),
    ("normal_", ()),
    ("trunc_normal_", ()),
    ("xavier_uniform_", ()),
    ("xavier_normal_", ()),
    ("kaiming_uniform_", ()),
    ("kaiming_normal_", ()),
    ("orthogonal_", ()),
    ("sparse_", (0.5,)),
]


def refusal(module, name: str, tensor: torch.Tensor, *args, **kwargs) -> tuple[type, str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(Exception) as refused:  # noqa: PT011
            getattr(module, name)(tensor, *args, **kwargs)
    return refused.type, str(refused.value)


@pytest.mark.parametrize(("name", "shape", "arguments"), REFUSED_BY_TORCH + REFUSED_LATE_BY_TORCH)
def test_refuses_as_torch_and_leaves_the_tensor_alone(name, shape, arguments):
    ours, theirs = torch.full(shape, 7.0), torch.full(shape, 7.0)
    expected_type, expected_text = refusal(torch.nn.init, name, theirs, *arguments)
    assert refusal(pyinit, name, ours, *arguments) == (expected_type, expected_text)
    assert (ours == 7).all()
    assert ours._version == 0 or not ours.numel()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("uniform_", (1.0, 0.0)),
        ("uniform_", (0.0, INF)),
        ("normal_", (0.0, -1.0)),
        ("trunc_normal_", (0.0, 1.0, 1.0, -1.0)),
        ("trunc_normal_", (0.0, 0.0)),
        ("trunc_normal_", (0.0, 1.0, INF, INF)),
    ],
)
def test_refuses_as_torch_in_every_dtype(name, arguments, dtype):
    ours, theirs = torch.full((3,), 7, dtype=dtype), torch.full((3,), 7, dtype=dtype)
    expected = refusal(torch.nn.init, name, theirs, *arguments)
    assert refusal(pyinit, name, ours, *arguments) == expected
    assert (ours == 7).all()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("uniform_", (0.0, 70000.0)), ("uniform_", (-65000, 65000)), ("constant_", (65519.0,))],
)
def test_refuses_what_half_cannot_hold_as_torch(name, arguments):
    ours, theirs = torch.full((3,), 7, dtype=torch.half), torch.full((3,), 7, dtype=torch.half)
    expected = refusal(torch.nn.init, name, theirs, *arguments)
    assert refusal(pyinit, name, ours, *arguments) == expected
    assert (ours == 7).all()


@pytest.mark.parametrize(("name", "arguments"), DRAWING)
@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool])
def test_integer_dtypes_are_refused_as_torch(name, arguments, dtype):
    ours, theirs = torch.ones(MATRIX, dtype=dtype), torch.ones(MATRIX, dtype=dtype)
    expected = refusal(torch.nn.init, name, theirs, *arguments)
    assert refusal(pyinit, name, ours, *arguments) == expected
    assert (ours == 1).all()


@pytest.mark.parametrize(("name", "arguments"), DRAWING)
def test_expanded_tensor_is_refused_as_torch(name, arguments):
    ours, theirs = torch.full((1, 4), 7.0), torch.full((1, 4), 7.0)
    expected = refusal(torch.nn.init, name, theirs.expand(4, 4), *arguments)
    assert refusal(pyinit, name, ours.expand(4, 4), *arguments) == expected
    assert (ours == 7).all()


@pytest.mark.parametrize(("name", "arguments"), DRAWING)
@pytest.mark.parametrize("generator", ["seed", 5, torch.empty(0)])
def test_what_is_no_generator_is_refused_as_torch(name, arguments, generator):
    ours, theirs = torch.full(MATRIX, 7.0), torch.full(MATRIX, 7.0)
    expected = refusal(torch.nn.init, name, theirs, *arguments, generator=generator)
    assert refusal(pyinit, name, ours, *arguments, generator=generator) == expected
    assert (ours == 7).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a generator of another device")
@pytest.mark.parametrize(("name", "arguments"), DRAWING)
def test_generator_of_another_device_is_refused_as_torch(name, arguments):
    generator = torch.Generator("cuda")
    ours, theirs = torch.full(MATRIX, 7.0), torch.full(MATRIX, 7.0)
    expected = refusal(torch.nn.init, name, theirs, *arguments, generator=generator)
    assert refusal(pyinit, name, ours, *arguments, generator=generator) == expected


@pytest.mark.parametrize("what", [[1.0, 2.0], None, 3.0])
@pytest.mark.parametrize(("name", "arguments"), DRAWING)
def test_what_is_no_tensor_is_told_what_is_taken(name, arguments, what):
    kind, text = refusal(pyinit, name, what, *arguments)
    assert kind is TypeError
    assert text == (
        "tensor must be a torch.Tensor, a numpy.ndarray, or an object of the CPU with __dlpack__, "
        f"got {type(what).__name__}"
    )


@pytest.mark.filterwarnings("ignore:mean is more than 2 std:UserWarning")
@pytest.mark.parametrize(
    "arguments", [(NAN, 1.0, -1.0, 1.0), (INF, 1.0), (-INF, 1.0, -1.0, 1.0), (0.0, NAN, -1.0, 1.0)]
)
def test_trunc_normal_refuses_what_torch_answers_with_nonsense(arguments):
    tensor = torch.full((3,), 7.0)
    with pytest.raises(ValueError, match="finite mean and a std that is a number, got mean="):
        pyinit.trunc_normal_(tensor, *arguments)
    assert (tensor == 7).all()


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"scale": 0.0}, ValueError, "scale must be a positive finite number, got 0.0"),
        ({"scale": -1}, ValueError, "scale must be a positive finite number, got -1"),
        ({"scale": NAN}, ValueError, "scale must be a positive finite number, got nan"),
        ({"scale": INF}, ValueError, "scale must be a positive finite number, got inf"),
        ({"scale": "1"}, ValueError, "scale must be a positive finite number, got '1'"),
        ({"mode": "fan"}, ValueError, "Mode fan not supported, please use one of"),
        ({"mode": None}, TypeError, "mode must be a str, got None"),
        ({"distribution": "cauchy"}, ValueError, "distribution must be one of .*got 'cauchy'"),
        ({"distribution": None}, ValueError, "distribution must be one of .*got None"),
    ],
)
@pytest.mark.parametrize("shape", [MATRIX, (0, 4)])
def test_variance_scaling_refuses_bad_arguments(arguments, error, text, shape):
    tensor = torch.full(shape, 7.0)
    with pytest.raises(error, match=text):
        pyinit.variance_scaling_(tensor, **arguments)
    assert (tensor == 7).all()


@pytest.mark.parametrize(
    ("name", "tensor", "error", "text"),
    [
        ("variance_scaling_", torch.ones(4), ValueError, "fewer than 2 dimensions"),
        ("lecun_normal_", torch.ones(4), ValueError, "fewer than 2 dimensions"),
        ("delta_orthogonal_", torch.ones(4, 4), ValueError, "3, 4 or 5 dimensions, got 2"),
        ("delta_orthogonal_", torch.ones(3, 4, 3), ValueError, "as many output .* got 3 < 4"),
        ("delta_orthogonal_", torch.ones(2, 2, 2).int(), NotImplementedError, "'Int'"),
        ("hadamard_", torch.ones(4), ValueError, "2 to 5 dimensions, got 1"),
        ("hadamard_", torch.ones(4, 4).int(), TypeError, "floating-point dtype, got torch.int32"),
    ],
)
def test_initializers_beyond_torch_refuse_bad_tensors(name, tensor, error, text):
    with pytest.raises(error, match=text):
        getattr(pyinit, name)(tensor)
    assert (tensor == 1).all()


@pytest.mark.parametrize("name", ["delta_orthogonal_", "hadamard_"])
def test_initializers_beyond_torch_refuse_overlapping_memory(name):
    memory = torch.full((1, 2, 3), 7.0)
    with pytest.raises(RuntimeError, match="single memory location"):
        getattr(pyinit, name)(memory.expand(4, 2, 3))
    assert (memory == 7).all()


def test_delta_orthogonal_refuses_a_bad_gain_untouched():
    tensor = torch.full((4, 4, 3), 7.0)
    with pytest.raises(TypeError, match="must be Tensor, not str"):
        pyinit.delta_orthogonal_(tensor, "x")
    assert (tensor == 7).all()


# ---- Orthogonal matrices -------------------------------------------------------------------------


def assert_refused(error: type, text: str, function, tensors, *args, **kwargs) -> None:
    """Nothing is written or drawn."""
    before = [(tensor.clone(), tensor._version) for tensor in tensors]
    generator = torch.Generator().manual_seed(1)
    states = torch.get_rng_state(), generator.get_state()
    for source in (None, generator):
        with pytest.raises(error, match=text):
            function(*args, generator=source, **kwargs)
    assert torch.equal(states[0], torch.get_rng_state())
    assert torch.equal(states[1], generator.get_state())
    for tensor, (values, version) in zip(tensors, before, strict=True):
        assert torch.equal(tensor, values)
        assert tensor._version == version


GROUPS = [
    (0, ValueError, r"groups must be at least 1 and divide dim 0 \(6\), got 0"),
    (-2, ValueError, r"groups must be at least 1 and divide dim 0 \(6\), got -2"),
    (4, ValueError, r"groups must be at least 1 and divide dim 0 \(6\), got 4"),
    (12, ValueError, r"groups must be at least 1 and divide dim 0 \(6\), got 12"),
    (2.0, TypeError, "groups must be an int, got 2.0"),
    (True, TypeError, "groups must be an int, got True"),
    (None, TypeError, "groups must be an int, got None"),
    ("2", TypeError, "groups must be an int, got '2'"),
]


@pytest.mark.parametrize("rng", ["philox", "torch"])
@pytest.mark.parametrize(("groups", "error", "text"), GROUPS)
@pytest.mark.parametrize("name", ["orthogonal_", "delta_orthogonal_"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.cfloat, torch.int32])
def test_groups_that_do_not_fit_are_refused(  # noqa: PLR0917
    name, groups, error, text, dtype, rng
):
    tensor = torch.full((6, 2, 3), 7, dtype=dtype)
    with pyinit.rng(rng):
        assert_refused(error, text, getattr(pyinit, name), [tensor], tensor, groups=groups)


@pytest.mark.parametrize(
    "gain", [NAN, INF, -INF, np.float32(NAN), np.float64(INF), pytest.param(1e39, id="1e39")]
)
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("name", ["orthogonal_", "delta_orthogonal_"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_gain_that_leaves_no_finite_matrix_is_refused(name, gain, groups, dtype):
    tensor = torch.full((6, 2, 3), 7, dtype=dtype)
    text = "gain must be finite in torch.float32, got "
    assert_refused(ValueError, text, getattr(pyinit, name), [tensor], tensor, gain, groups=groups)


@pytest.mark.parametrize("gain", [NAN, INF])
@pytest.mark.parametrize("groups", [1, 2])
def test_with_torchs_numbers_no_gain_is_refused(gain, groups):
    ours, theirs = torch.full(MATRIX, 7.0), torch.full(MATRIX, 7.0)
    with pyinit.rng("torch"):
        pyinit.orthogonal_(ours, gain, torch.Generator().manual_seed(1), groups=groups)
    torch.nn.init.orthogonal_(theirs, gain, torch.Generator().manual_seed(1))
    assert torch.equal(ours.isfinite(), theirs.isfinite())


@pytest.mark.parametrize("gain", ["x", None, 1j, [1.0], 10**400, torch.ones(5)])
def test_gain_that_is_no_factor_is_refused(gain):
    for shape, function in ((MATRIX, pyinit.orthogonal_), (KERNEL, pyinit.delta_orthogonal_)):
        tensor = torch.full(shape, 7.0)
        assert_refused(Exception, ".", function, [tensor], tensor, gain)


@pytest.mark.parametrize("rng", ["philox", "torch"])
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (2, 0, 3)])
def test_orthogonal_without_elements_is_nothing_as_torch(shape, rng):
    state = torch.get_rng_state()
    tensor, other = torch.empty(shape), torch.empty(*shape, 1)
    with pyinit.rng(rng):
        assert pyinit.orthogonal_(tensor, "x") is tensor
        assert pyinit.orthogonal_(tensor, groups=shape[0] or 5) is tensor
        assert pyinit.orthogonal_many_([tensor, tensor]) == [tensor, tensor]
        if other.dim() > 2 and shape[0] >= shape[1]:
            assert pyinit.delta_orthogonal_(other) is other
    assert torch.equal(state, torch.get_rng_state())


def test_groups_of_fewer_than_2_dimensions_are_refused_as_torch():
    for tensor in (torch.ones(4), torch.ones(())):
        text = "Only tensors with 2 or more dimensions are supported"
        assert_refused(ValueError, text, pyinit.orthogonal_, [tensor], tensor, groups=2)


def test_delta_orthogonal_counts_channels_within_groups():
    tensor = torch.full((6, 3, 3), 7.0)
    text = "at least as many output as input channels in each group, got 2 < 3"
    assert_refused(ValueError, text, pyinit.delta_orthogonal_, [tensor], tensor, groups=3)


@pytest.mark.parametrize(
    ("second", "gain", "error", "text"),
    [
        (3.0, 1, TypeError, r"tensors\[1\] must be a torch.Tensor, .* got float"),
        (np.ones(MATRIX, int), 1, TypeError, r"tensors\[1\] must have dtype .* got int64"),
        (torch.ones(4), 1, ValueError, r"2 or more dimensions .* got tensors\[1\] of .*\(4,\)"),
        (torch.ones(MATRIX, dtype=torch.int32), 1, NotImplementedError, "'Int'"),
        (torch.ones(MATRIX, dtype=torch.cfloat), 1, NotImplementedError, "complex"),
        (torch.eye(4).to_sparse(), 1, Exception, "."),
        (torch.ones(1, 4).expand(4, 4), 1, ValueError, r"tensors\[1\] must not .* share memory"),
        (torch.ones(MATRIX), [1.0], ValueError, "got 1 gains for 2 tensors"),
        (torch.ones(MATRIX), (1.0, 2.0, 3.0), ValueError, "got 3 gains for 2 tensors"),
        (torch.ones(MATRIX), torch.ones(3), ValueError, "got 3 gains for 2 tensors"),
        (torch.ones(MATRIX), None, TypeError, "gain must be a number, .* got None"),
        (torch.ones(MATRIX), 1j, TypeError, "gain must be a number, .* got 1j"),
        (torch.ones(MATRIX), [1.0, "x"], TypeError, r"gain\[1\] must be a number, got 'x'"),
        (torch.ones(MATRIX), [1.0, NAN], ValueError, "gain must be finite in .*, got nan"),
        (torch.ones(MATRIX), INF, ValueError, "gain must be finite in .*, got inf"),
        (torch.ones(MATRIX), [1.0, 10**400], OverflowError, "."),
    ],
)
def test_many_refuse_what_one_of_them_refuses(second, gain, error, text):
    tensors = [torch.full(MATRIX, 7.0), second]
    watched = tensors[:1] + [t for t in tensors[1:] if isinstance(t, torch.Tensor)]
    watched = [t for t in watched if t.layout is torch.strided]
    assert_refused(error, text, pyinit.orthogonal_many_, watched, tensors, gain)


def test_many_with_torchs_numbers_refuse_before_anything_is_drawn():
    tensors = [torch.full(MATRIX, 7.0), torch.full(MATRIX, 7, dtype=torch.half)]
    with pyinit.rng("torch"):
        assert_refused(RuntimeError, "Half", pyinit.orthogonal_many_, tensors, tensors)


@pytest.mark.parametrize(
    ("tensors", "text"),
    [
        (torch.ones(3, 4, 4), "an iterable of tensors, got a Tensor"),
        (np.ones((3, 4, 4)), "an iterable of tensors, got a ndarray"),
        (None, "an iterable of tensors, got None"),
        (3.0, "an iterable of tensors, got 3.0"),
        ("ab", r"tensors\[0\] must be a torch.Tensor, .* got str"),
    ],
)
def test_many_take_an_iterable_of_tensors(tensors, text):
    with pytest.raises(TypeError, match=text):
        pyinit.orthogonal_many_(tensors)


def test_many_refuse_inference_tensors_with_nothing_written():
    with torch.inference_mode():
        inference = torch.ones(MATRIX)
    tensors = [torch.full(MATRIX, 7.0), inference]
    text = "Inplace update to inference tensor"
    assert_refused(RuntimeError, text, pyinit.orthogonal_many_, tensors[:1], tensors)
    assert (inference == 1).all()


def test_many_refuse_what_is_no_generator():
    tensor = torch.full(MATRIX, 7.0)
    with pytest.raises(TypeError, match=r"generator must be a torch\.Generator, got 'seed'"):
        pyinit.orthogonal_many_([tensor], generator="seed")
    assert (tensor == 7).all()
