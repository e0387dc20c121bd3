"""The sizes of convolutions, drawn at random."""

from typing import NamedTuple

from fuzzing.case import LARGEST, Draws
from fuzzing.subjects.windows import Axis


class Geometry(NamedTuple):
    """What the sizes of a convolution follow from; ``inputs`` and ``outputs`` are those of a group."""

    transposed: bool
    batch: int
    inputs: int
    outputs: int
    groups: int
    axes: list[Axis]


def usual_geometry(rng: Draws) -> Geometry:
    """Sizes as models have them, and at times a large kernel or an image without elements."""
    dims = rng.choice((1, 1, 2, 2, 2, 3))
    transposed = rng.chance(0.3)
    is_large = rng.chance(0.08)
    kind = rng.choice(("one", "one", "groups", "depthwise"))
    places = rng.sizes(3 + dims, 200_000 if is_large else 8_000)
    batch, inputs, outputs, *size = places
    groups = 1 if kind == "one" else rng.randint(1, 6) if kind == "groups" else rng.randint(1, 40)
    if kind == "depthwise":
        inputs, outputs = 1, rng.choice((1, 1, 1, 2, 3))
    kernel = [rng.choice((1, 1, 2, 3, 3, 4, 5, 7)) if dims < 3 else rng.randint(1, 3) for _ in size]
    if rng.chance(0.08):
        kernel[rng.randrange(dims)] = rng.randint(1, 40)
    stride = [rng.choice((1, 1, 1, 2, 3, 4, 7)) for _ in size]
    dilation = [rng.choice((1, 1, 1, 2, 3, 5)) for _ in size]
    axes = []
    for n, k, s, d in zip(size, kernel, stride, dilation, strict=True):
        reach = d * (k - 1)
        least = 0 if transposed else max(0, (reach + 2 - n) // 2)
        most = max(0, ((n - 1) * s + reach) // 2) if transposed else least + k
        p = rng.choice((least, min(least + k // 2, most), rng.randint(least, max(least, most))))
        behind = rng.randrange(max(s, d)) if rng.chance(0.3) else 0
        axes.append(Axis(n, k, s, p, d, behind if transposed else 0))
    if rng.chance(0.03):  # an image without elements
        batch, inputs = rng.choice(((0, inputs), (batch, 0)))
    return Geometry(transposed, batch, inputs, outputs, groups, axes)


def extreme_geometry(rng: Draws) -> Geometry:
    """Strides, paddings and dilations up to the largest, of which few taps meet the image."""
    dims = rng.choice((1, 2, 2, 3))
    transposed = rng.chance(0.3)
    most = rng.choice((40, 4_096, LARGEST, LARGEST))
    channels = rng.choice((1, 2, 4, 16, 64))
    batch, inputs, outputs = (rng.randint(1, most_of) for most_of in (2, channels, channels))
    groups = rng.choice((1, 1, 2, 4))
    if rng.chance(0.2):
        inputs, outputs, groups = 1, 1, rng.randint(1, 40)
    size = [rng.choice((1, 2, 3, rng.randint(1, 9), rng.randint(1, 40))) for _ in range(dims)]
    kernel = [rng.randint(1, 4) for _ in size]
    steps, spacings = (
        [max(1, rng.upto(most) if rng.chance(0.5) else rng.randint(1, 3)) for _ in size]
        for _ in range(2)
    )
    if rng.chance(0.4):  # the same for all dimensions, as one number gives them
        steps, spacings = [steps[0]] * dims, [spacings[0]] * dims
    if rng.chance(0.08):
        spacings = [LARGEST - rng.randint(0, 1)] * dims
    axes = []
    for n, k, step, d in zip(size, kernel, steps, spacings, strict=True):
        reach = d * (k - 1)
        if transposed:  # the padding leaves few pixels
            s, b = step, rng.randrange(max(step, d)) if rng.chance(0.2) else 0
            p = max(0, ((n - 1) * s + reach + b - rng.randint(0, 12)) // 2)
        else:
            b, p = 0, max(0, (reach + 2 - n) // 2) + rng.choice((0, 0, 1, rng.upto(most)))
            least = (n + 2 * p - reach) // rng.randint(1, 20)  # the stride leaves few places
            s = min(max(step, least), LARGEST)
        axes.append(Axis(n, k, s, min(p, LARGEST), d, b))
    return Geometry(transposed, batch, inputs, outputs, groups, axes)
