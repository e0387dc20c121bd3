"""Initializers: the names of ``torch.nn.init``, and more.

Each function fills its tensor in place, leaves no autograd history, and returns the tensor.
Signatures, errors and warnings are torch's; what pyinit adds is keyword-only. Tensors that the
kernels cannot write (other devices and dtypes, sparse, quantized, subclasses, meta) go to torch's own
function. A DTensor gets, in each process, what the whole tensor would have there, if the processes
draw the same key (docs/scale.md).

NumPy arrays, and objects of the CPU with ``__dlpack__`` that say that they are writable, are filled
in their own memory and returned (docs/numpy_keras.md).

An element's value depends on the key of the call and on the element's place in the tensor alone, so
memory layout, thread count and instruction set do not change it (orthogonal matrices agree only to
rounding on a CPU without fused multiply-add). A call draws its key, 64 bits, from ``generator`` or
from torch's default generator, so ``torch.manual_seed`` governs it.

Every fan-based initializer takes ``groups=``, ``transposed=`` and ``batch_dims=``. With the defaults
fans are torch's. A convolution's weight (out, in/groups, *kernel) has fan_in = in/groups * taps and,
once ``groups`` is given, fan_out = out/groups * taps. With ``transposed=True`` the weight is that of a
transposed convolution, (in, out/groups, *kernel): fan_in = in/groups * taps, fan_out = out/groups *
taps. Strides are not counted. The first ``batch_dims`` dimensions only count weights, and fans are
those of one of them: a mixture's experts (experts, in, out) have ``batch_dims=1, transposed=True``, and
fused projections are ``weight.unflatten(0, (3, -1))`` with ``batch_dims=1``. The orthogonal
initializers take ``groups=``: each group gets a matrix of its own.
"""

from pyinit._scale.gain import calculate_gain
from pyinit.init._basic import constant_, normal_, ones_, trunc_normal_, uniform_, zeros_
from pyinit.init._orthogonal import delta_orthogonal_, orthogonal_, orthogonal_many_
from pyinit.init._patterns import dirac_, eye_, hadamard_, sparse_
from pyinit.init._scaled import (
    kaiming_normal_,
    kaiming_uniform_,
    lecun_normal_,
    lecun_uniform_,
    variance_scaling_,
    xavier_normal_,
    xavier_uniform_,
)
from pyinit.init._torch_names import (  # noqa: F401  libraries import the private ones
    _calculate_correct_fan,
    _calculate_fan_in_and_fan_out,
    _no_grad_fill_,
    _no_grad_normal_,
    _no_grad_trunc_normal_,
    _no_grad_uniform_,
    _no_grad_zero_,
    constant,
    dirac,
    eye,
    kaiming_normal,
    kaiming_uniform,
    normal,
    orthogonal,
    sparse,
    uniform,
    xavier_normal,
    xavier_uniform,
)

__all__ = [
    "calculate_gain",
    "constant",
    "constant_",
    "delta_orthogonal_",
    "dirac",
    "dirac_",
    "eye",
    "eye_",
    "hadamard_",
    "kaiming_normal",
    "kaiming_normal_",
    "kaiming_uniform",
    "kaiming_uniform_",
    "lecun_normal_",
    "lecun_uniform_",
    "normal",
    "normal_",
    "ones_",
    "orthogonal",
    "orthogonal_",
    "orthogonal_many_",
    "sparse",
    "sparse_",
    "trunc_normal_",
    "uniform",
    "uniform_",
    "variance_scaling_",
    "xavier_normal",
    "xavier_normal_",
    "xavier_uniform",
    "xavier_uniform_",
    "zeros_",
]

for _name in __all__:  # a function is pickled by the name that it has here
    globals()[_name].__module__ = __name__
