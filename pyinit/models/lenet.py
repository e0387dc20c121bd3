"""LeNet-5 (LeCun, Bottou, Bengio and Haffner 1998, "Gradient-based learning applied to document recognition")."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class LeNet5(nn.Module):
    """Images (batch, channels, 28, 28) to logits (batch, classes).

    The layers have the published sizes, 6, 16, 120, 84 and 10, with 5x5 convolutions and tanh. The
    images of MNIST have 28 pixels a side; the paper's, 32 with the frame of zeros that the first
    convolution adds here. As is usual today, each map of the second convolution sees all of the first,
    the means of 2x2 pixels have no weights, tanh is not scaled, and the last layer is linear.
    """

    def __init__(self, *, channels: int = 1, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.avg_pool2d(torch.tanh(self.conv1(x)), 2)
        x = functional.avg_pool2d(torch.tanh(self.conv2(x)), 2)
        x = torch.tanh(self.fc1(x.flatten(1)))
        logits: Tensor = self.fc3(torch.tanh(self.fc2(x)))
        return logits
