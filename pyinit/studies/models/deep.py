"""Plain chains of many layers, without norms and without shortcuts."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from pyinit.inspection.theory import MeanField

ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
}


def deep_mlp(
    depth: int = 30, width: int = 100, activation: str = "relu", inputs: int = 64, classes: int = 10
) -> nn.Sequential:
    """A chain of linear layers.

    Args:
        depth: how many layers have weights, the last one included
        width: units of each hidden layer
        activation: a name in ``ACTIVATIONS``
        inputs: values of a sample
        classes: outputs

    Returns:
        The network; inputs of more dimensions are flattened.

    Example:
        >>> from pyinit.studies.models.deep import deep_mlp
        >>> sum(each.dim() > 1 for each in deep_mlp(depth=5, width=8).parameters())
        5
    """
    layers: list[nn.Module] = [nn.Flatten()]
    for before in (inputs, *[width] * (depth - 2)):
        layers += [nn.Linear(before, width), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers, nn.Linear(width, classes))


def deep_cnn(
    depth: int = 30,
    width: int = 16,
    activation: str = "relu",
    *,
    channels: int = 1,
    classes: int = 10,
    halvings: int = 1,
    side: int = 8,
) -> nn.Sequential:
    """A chain of 3x3 convolutions, and a linear layer.

    Padding is circular, so that no place is nearer to a border than another, as in Xiao et al. 2018.

    Args:
        depth: how many layers have weights, the linear one included
        width: channels of each convolution
        activation: a name in ``ACTIVATIONS``
        channels: channels of a sample
        classes: outputs
        halvings: how many of the first convolutions halve both sides of their input
        side: height and width of a sample, in pixels

    Returns:
        The network.

    Example:
        >>> import torch
        >>> from pyinit.studies.models.deep import deep_cnn
        >>> deep_cnn(depth=4, width=8)(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """
    layers: list[nn.Module] = []
    for number, before in enumerate((channels, *[width] * (depth - 2))):
        stride = 2 if number < halvings else 1
        layers += [
            nn.Conv2d(before, width, 3, stride, padding=1, padding_mode="circular"),
            ACTIVATIONS[activation](),
        ]
    places = (side >> halvings) ** 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * places, classes))


def deep(
    network: str = "mlp", depth: int = 30, activation: str = "relu", side: int = 8
) -> nn.Module:
    """An MLP of 100 units a layer, or a CNN of 16 channels.

    Args:
        network: ``mlp`` or ``cnn``
        depth: how many layers have weights
        activation: a name in ``ACTIVATIONS``
        side: height and width of a grey sample, in pixels

    Returns:
        The network.

    Example:
        >>> from pyinit.studies.models.deep import deep
        >>> deep("cnn", depth=3)[0]
        Conv2d(1, 16, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1), padding_mode=circular)
    """
    if network == "mlp":
        return deep_mlp(depth, activation=activation, inputs=side**2)
    return deep_cnn(depth, activation=activation, side=side)


class Chain(nn.Sequential):
    """A chain whose weights ``mean_field`` draws.

    Args:
        layers: the layers
        sigma_w: the standard deviation of weights times the root of fan_in
        sigma_b: the standard deviation of biases
    """

    def __init__(self, *layers: nn.Module, sigma_w: float, sigma_b: float) -> None:
        super().__init__(*layers)
        self.sigma_w, self.sigma_b = sigma_w, sigma_b


def chain(
    depth: int = 30,
    sigma_w: float = 1.0,
    sigma_b: float = 0.05**0.5,
    width: int = 100,
    *,
    activation: str = "tanh",
    inputs: int = 64,
) -> Chain:
    """The networks of Schoenholz et al. 2017: ``deep_mlp`` that knows the scales of its weights.

    Args:
        depth: how many layers have weights
        sigma_w: the standard deviation of weights times the root of fan_in
        sigma_b: the standard deviation of biases
        width: units of each hidden layer
        activation: a name in ``ACTIVATIONS``
        inputs: values of a sample

    Returns:
        The network.
    """
    layers = deep_mlp(depth, width, activation, inputs)
    return Chain(*layers, sigma_w=sigma_w, sigma_b=sigma_b)


def mean_field(model: Chain, _: object, seed: int) -> None:
    """Draw all weights and biases of a chain as mean-field theory takes them to be.

    Args:
        model: the network
        seed: the seed of the weights

    Example:
        >>> from pyinit.studies.models.deep import chain, mean_field
        >>> model = chain(depth=3, sigma_w=2.0, sigma_b=0.0, width=400)
        >>> mean_field(model, None, seed=0)
        >>> round(float(model[3].weight.detach().std()) * 20, 1), model[3].bias.any().item()
        (2.0, False)
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in model:
            if isinstance(layer, nn.Linear):
                std = model.sigma_w * layer.in_features**-0.5
                layer.weight.copy_(_normal(layer.weight, std, generator))
                layer.bias.copy_(_normal(layer.bias, model.sigma_b, generator))


def _normal(like: Tensor, std: float, generator: torch.Generator) -> Tensor:
    return std * torch.randn(like.shape, generator=generator)


def trainable_depth(sigma_w: float, sigma_b: float = 0.05**0.5, activation: str = "tanh") -> float:
    """The depth up to which networks train, as Schoenholz et al. 2017 found it: 6 xi_c.

    Args:
        sigma_w: the standard deviation of weights times the root of fan_in
        sigma_b: the standard deviation of biases
        activation: the activation's name

    Returns:
        The depth in layers; infinite on the critical line.

    Example:
        >>> from pyinit.studies.models.deep import trainable_depth
        >>> trainable_depth(1.0) < trainable_depth(1.3) > trainable_depth(3.0)
        True
    """
    return 6 * MeanField(activation, sigma_w=sigma_w, sigma_b=sigma_b).xi_c
