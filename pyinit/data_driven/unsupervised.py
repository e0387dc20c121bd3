"""Unsupervised pretraining: layer by layer, a denoising autoencoder of the layer's input."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from pyinit._graph.graph import ActivationKind
from pyinit._graph.trace import trace
from pyinit._random.rng import Key, seed_of, stream_of
from pyinit._torch.eager import eager
from pyinit.data_driven.affine import Affine
from pyinit.data_driven.engine import Base, working
from pyinit.data_driven.patches import padded, why_no_patches
from pyinit.data_driven.pictures import About
from pyinit.data_driven.results import Measured, MethodReport
from pyinit.data_driven.standardized import reset
from pyinit.inspection.walk import Call
from pyinit.whole_model.methods import register_method

_AT_ONCE = 2**20  # elements of the input whose reconstruction is measured at a time


@dataclass(frozen=True)
class UnsupervisedLayer(Measured):
    """What ``pretrain_unsupervised_`` measured of one layer.

    Args:
        name: the layer's name
        before: the error of reconstructing the layer's input from its output with the base, as a share of
            the input's variance
        after: the same with the weights as they are now
    """

    about: ClassVar[Mapping[str, About]] = {
        "": About("error of the reconstruction, over the variance of the input"),
    }

    before: float
    after: float


@dataclass(frozen=True)
class UnsupervisedReport(MethodReport[UnsupervisedLayer]):
    """What ``pretrain_unsupervised_`` did: a row for each layer, in the order of execution.

    Args:
        init: what ``replay_`` needs; the learned weights are among its ``tensors``
        layers: the rows
        left: pairs of the name of a layer that stays as it was, and why
        largest_error: the greatest error of a layer with the weights as they are now

    Example:
        >>> import torch, pyinit
        >>> from torch import nn
        >>> x = torch.randn(256, 4, generator=torch.Generator().manual_seed(0)).repeat(1, 2)
        >>> model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
        >>> report = pyinit.pretrain_unsupervised_(model, x, seed=0)
        >>> report.of("0").after < report.of("0").before
        True
        >>> pyinit.UnsupervisedReport.from_dict(report.to_dict(), report.init.tensors) == report
        True
    """

    row: ClassVar[type[Measured]] = UnsupervisedLayer

    largest_error: float = 0.0


@eager
@register_method("pretrain_unsupervised", source="Bengio et al. 2007; Vincent et al. 2008")
def pretrain_unsupervised_(
    model: nn.Module,
    data: Any,
    *,
    base: Base = "auto",
    corruption: float = 0.25,
    steps: int = 200,
    lr: float = 0.01,
    batch_size: int = 64,
    seed: int | None = None,
    layers: Any = None,
    verbose: bool = False,
) -> UnsupervisedReport:
    """Train each layer, in the order of execution, to reconstruct its input from a corrupted one.

    One pass goes through the model. At each linear layer or convolution a denoising autoencoder learns to
    reconstruct what the layer takes: a share of the input's elements is set to 0, the layer and the
    activation that follows it encode the rest, and the same weights, transposed, with a bias of their own,
    decode it. Steps of Adam lower the mean squared error on samples of the batch. The learned weight and
    bias stay in the layer, and the pass goes on from what they give; the decoder's bias is dropped. A
    layer whose error does not fall keeps its base, and so do the last layers of the model, unless
    ``layers`` names them, and layers of other kinds.

    Whatever is raised, ``KeyboardInterrupt`` included, the model is afterwards as it was before.

    Args:
        model: the model
        data: a batch, as ``pyinit.inspect`` takes it: all samples that there are to learn from; a target is
            not looked at
        base: what the weights begin with: a recipe, or None for the weights as they are
        corruption: the share of the input's elements that is set to 0, from 0 to below 1
        steps: the number of steps of Adam at each layer
        lr: their learning rate
        batch_size: the number of samples of a step (for linear layers, of positions of sequences)
        seed: the seed of the base, of what is corrupted, of the samples of each step, and of what the
            model draws when it runs
        layers: which layers to train, as ``only=`` of ``initialize_`` says it; names of modules will do
        verbose: print a line for each layer

    Returns:
        The report, which ``replay_`` takes. The learned weights are in it.

    Raises:
        TypeError, ValueError: for arguments that are none of these, a batch that ends early or has NaN,
            and models without a layer that can be trained.
        RuntimeError: where the model fails, naming the layer.

    References:
        Bengio, Lamblin, Popovici & Larochelle 2007, "Greedy Layer-Wise Training of Deep Networks"; Vincent,
        Larochelle, Bengio & Manzagol 2008, "Extracting and Composing Robust Features with Denoising
        Autoencoders".

    Example:
        >>> import torch, pyinit
        >>> from torch import nn
        >>> make = lambda: nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
        >>> x = torch.randn(256, 4, generator=torch.Generator().manual_seed(0)).repeat(1, 2)
        >>> model, again = make(), make()
        >>> report = pyinit.pretrain_unsupervised_(model, x, steps=50, seed=0)
        >>> sorted(report.init.tensors)
        ['0.bias', '0.weight']
        >>> _ = pyinit.replay_(again, report)  # needs no data
        >>> torch.equal(again[0].weight, model[0].weight)
        True
    """
    _check(corruption, steps, lr, batch_size)
    options = {"corruption": corruption, "steps": steps, "lr": lr, "batch_size": batch_size}
    found: list[UnsupervisedLayer] = []
    with working(
        "pretrain_unsupervised",
        options,
        *(model, data),
        base=base,
        seed=seed,
        layers=layers,
        verbose=verbose,
    ) as work:
        graph = trace(work.model)
        key = seed if seed is not None else int(torch.randint(2**31, ()))
        is_idle = True

        def visit(call: Call) -> None:
            nonlocal is_idle
            for affine in work.affines(call):
                path = affine.weight.site.path
                why = why_no_patches(affine)
                if why is None and layers is None and path in graph.heads:
                    why = "no layer takes its output; name it in layers= to train it, too"
                if why is not None:
                    work.leave(affine.name, why)
                    continue
                is_idle = False
                coder = _Autoencoder(affine, _function(graph.activation.get(path)))
                numbers = seed_of(Key(key, stream_of(affine.weight.name)))
                row = coder.settle(corruption, steps, lr, batch_size, numbers)
                if isinstance(row, str):
                    work.leave(affine.name, row)
                    work.say(f"{affine.name}: left as it was: {row}")
                else:
                    found.append(row)
                    work.say(row)

        work.walk(visit)
        work.refuse_idle(is_idle, "layer that it can train")
        return UnsupervisedReport(
            work.report(),
            tuple(found),
            tuple(work.left.items()),
            max((row.after for row in found), default=0.0),
        )


def _check(corruption: Any, steps: Any, lr: Any, batch_size: Any) -> None:
    if not (isinstance(corruption, (int, float)) and 0 <= corruption < 1):
        raise ValueError(f"corruption must be a number from 0 to below 1, got {corruption!r}")
    if not (isinstance(lr, (int, float)) and 0 < lr < math.inf):
        raise ValueError(f"lr must be a positive number, got {lr!r}")
    for name, value in (("steps", steps), ("batch_size", batch_size)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")


def _function(activation: ActivationKind | None) -> Callable[[Tensor], Tensor]:
    """The activation that follows a layer; none where it is not known as a function."""
    if activation is None or not isinstance(activation.nonlinearity, str):
        return lambda z: z
    if activation.nonlinearity == "leaky_relu":
        return lambda z: functional.leaky_relu(z, activation.a)
    function: Callable[[Tensor], Tensor] = getattr(functional, activation.nonlinearity)
    return function


class _Autoencoder:
    """A layer as an encoder, and its weight transposed as the decoder."""

    def __init__(self, affine: Affine, activation: Callable[[Tensor], Tensor]) -> None:
        self._affine, self._activation = affine, activation
        self._module: Any = affine.module
        inputs: Tensor = affine.input  # type: ignore[assignment]
        self._is_linear = isinstance(affine.module, nn.Linear)
        if self._is_linear:
            self._samples = inputs.reshape(-1, inputs.shape[-1])
        else:
            is_single = inputs.dim() == affine.weight.base.dim() - 1
            self._samples = inputs.unsqueeze(0) if is_single else inputs
        self._dtype = torch.promote_types(affine.weight.base.dtype, torch.float32)

    def settle(
        self, corruption: float, steps: int, lr: float, batch_size: int, seed: int
    ) -> UnsupervisedLayer | str:
        """Train the layer, and write what it learned. What was measured; or why it has its base."""
        affine = self._affine
        variance = self._variance()
        if not math.isfinite(variance):
            return "its input is not finite"
        if variance == 0:
            return "its input has no variance"
        before, _ = self._error()
        weight, bias = self._learned(corruption, steps, lr, batch_size, seed)
        affine.weight.set_(values=weight)
        if affine.bias is not None:
            affine.bias.set_(values=bias)
        affine.again()
        after, _ = self._error()
        if after < before:
            return UnsupervisedLayer(affine.name, before / variance, after / variance)
        reset(affine)
        return (
            f"its reconstruction error did not fall ({before / variance:.4g} of the input's variance "
            f"before, {after / variance:.4g} after {steps} steps)"
        )

    def _learned(
        self, corruption: float, steps: int, lr: float, batch_size: int, seed: int
    ) -> tuple[Tensor, Tensor | None]:
        generator = torch.Generator(self._samples.device).manual_seed(seed)
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.autocast(self._samples.device.type, enabled=False),
        ):
            offset = self._error()[1].clone().requires_grad_()
            encoder = [each.clone() for each in self._now()]
            is_fixed = self._affine.bias is None  # a bias that there is stays as it is
            learned = [each.requires_grad_() for each in (encoder[:1] if is_fixed else encoder)]
            learned.append(offset)
            optimizer = torch.optim.Adam(learned, lr)
            for _ in range(steps):
                chosen = torch.randint(
                    len(self._samples),
                    (batch_size,),
                    generator=generator,
                    device=self._samples.device,
                )
                clean = self._samples[chosen].to(self._dtype)
                drawn = torch.rand(clean.shape, generator=generator, device=clean.device)
                decoded = self._decoded(clean * (drawn >= corruption), *encoder)
                optimizer.zero_grad()
                error = functional.mse_loss(decoded + self._placed(offset), clean)
                torch.autograd.backward(error)
                optimizer.step()
        weight, *bias = (each.detach() for each in encoder)
        return weight, bias[0] if bias and self._affine.bias is not None else None

    def _now(self) -> list[Tensor]:
        """The weight as it is, and the bias that there is, whether it may be changed or not."""
        affine = self._affine
        bias = affine.offset if affine.bias is None else affine.bias.now
        pieces = [affine.weight.now, bias]
        return [each.detach().to(self._dtype) for each in pieces if each is not None]

    def _decoded(self, inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """What the decoder makes of what the encoder does, without the decoder's bias."""
        if self._is_linear:
            return self._activation(functional.linear(inputs, weight, bias)) @ weight
        module, dims = self._module, inputs.dim() - 2
        whole = padded(module, inputs)
        steps: Any = (module.stride, 0, module.dilation, module.groups)
        coded = self._activation(getattr(functional, f"conv{dims}d")(whole, weight, bias, *steps))
        missing = [  # at the end, of what the strides step over
            size - (count - 1) * stride - dilation * (kernel - 1) - 1
            for size, count, stride, dilation, kernel in zip(
                whole.shape[2:],
                coded.shape[2:],
                *(module.stride, module.dilation, module.kernel_size),
                strict=True,
            )
        ]
        decoded: Tensor = getattr(functional, f"conv_transpose{dims}d")(
            coded, weight, None, module.stride, 0, missing, module.groups, module.dilation
        )
        around = [-each for each in module._reversed_padding_repeated_twice]
        return functional.pad(decoded, around)

    def _placed(self, offset: Tensor) -> Tensor:
        """The decoder's bias, one for each feature or channel of the input, as it is added."""
        return offset.view(-1, *[1] * (self._samples.dim() - 2))

    def _blocks(self) -> Iterator[Tensor]:
        count = max(1, _AT_ONCE // self._samples[0].numel())
        return (each.to(self._dtype) for each in torch.split(self._samples, count))

    @torch.no_grad()
    def _error(self) -> tuple[float, Tensor]:
        """The mean squared error with the best bias of the decoder, and that bias."""
        now = self._now()
        with torch.autocast(self._samples.device.type, enabled=False):
            return self._spread(each - self._decoded(each, *now) for each in self._blocks())

    @torch.no_grad()
    def _variance(self) -> float:
        return self._spread(self._blocks())[0]

    def _spread(self, blocks: Iterator[Tensor]) -> tuple[float, Tensor]:
        """The mean of the features' variances, and their means."""
        first = next(blocks)
        start = _rows(first).mean(1)  # near the mean, so that little is lost by subtraction
        count, total, squares = 0, torch.zeros_like(start), torch.zeros_like(start)
        for block in chain([first], blocks):
            rows = _rows(block) - start[:, None]
            count += rows.shape[1]
            total += rows.sum(1)
            squares += rows.square().sum(1)
        mean = total / count
        variance = float((squares / count - mean.square()).mean())
        return variance, (start + mean).to(self._dtype)


def _rows(block: Tensor) -> Tensor:
    """Features or channels x positions, in float64."""
    return block.movedim(1, 0).flatten(1).double()
