"""``im2col`` and ``col2im``: from images to columns and back."""

import math
from dataclasses import dataclass

from fuzzing.case import LARGEST, Draws, Program, choice, whole
from fuzzing.memory import LAYOUTS, dense, laid_out
from fuzzing.subjects.windows import Axis, Windowed


@dataclass(frozen=True, kw_only=True)
class Columns(Windowed):
    name = "columns"
    same_bits = "all"
    most_work = 1e6

    back: bool
    """Whether it is ``col2im``."""
    batch: int = whole()
    channels: int = whole()
    dtype: str = choice("float32", "float64")
    layout: str = choice(*LAYOUTS)

    @classmethod
    def draw(cls, rng: Draws) -> "Columns":
        return rng.until(lambda: cls._drawn(rng))

    @classmethod
    def _drawn(cls, rng: Draws) -> "Columns":
        dims = rng.choice((1, 2, 2, 3))
        batch, channels, *size = rng.sizes(2 + dims, 100_000 if rng.chance(0.05) else 3_000)
        is_extreme = rng.chance(0.15)
        axes = []
        for n in size:
            k = rng.choice((1, 2, 3, 4, rng.randint(1, 9)))
            s, d = rng.choice((1, 1, 2, 3)), rng.choice((1, 1, 2, 3))
            if is_extreme:
                s, d = max(1, rng.upto(LARGEST)), max(1, rng.upto(LARGEST))
            p = min(LARGEST, max(0, (d * (k - 1) + 2 - n) // 2) + rng.choice((0, 0, 1, k)))
            if is_extreme and rng.chance(0.3):
                p = rng.upto(LARGEST)
                s = max(s, (n + 2 * p) // 20)
            axes.append(Axis(n, k, min(s, LARGEST), p, d))
        return cls(
            back=rng.chance(0.5),
            batch=0 if rng.chance(0.02) else batch,
            channels=channels,
            **cls.along(axes),
            dtype=rng.choice(("float32", "float64")),
            # Only torch takes the last of them, and it does so in two dimensions alone.
            layout=rng.choice(LAYOUTS if dims == 2 else LAYOUTS[:-1]),
            threads=rng.any_threads(),
            seed=rng.randrange(1000),
        )

    def label(self) -> str:
        return f"{'col2im' if self.back else 'im2col'} {len(self.size)}d"

    def _places(self) -> int:
        return math.prod(axis.places for axis in self.axes)

    def work(self) -> float:
        taps = self.channels * math.prod(self.kernel)
        return max(
            self.batch * self.channels * math.prod(self.size),
            self.batch * taps * self._places(),
            # The reference multiplies by a matrix of ones and zeros.
            self.batch * taps * taps * self._places() / 50,
        )

    def program(self) -> Program:
        image = (self.batch, self.channels, *self.size)
        taps = self.channels * math.prod(self.kernel)
        columns = (self.batch, taps, self._places())
        values = dense("dyadic", self.dtype)
        window = f"{self.kernel}, {self.dilation}, {self.padding}, {self.stride}"
        dims, convolution = len(self.size), f"{self.stride}, {self.padding}, {self.dilation}"
        setup = [
            f"x = {laid_out(values, columns if self.back else image, self.layout)}",
            # Each filter takes one pixel. torch's own functions know two dimensions only.
            f"taps = torch.eye({taps}, dtype=x.dtype).view({(taps, self.channels, *self.kernel)})",
        ]
        if not self.back:
            right = f"torchs.conv{dims}d(x, taps, None, {convolution}).flatten(2)"
            return Program(setup, f"F.im2col(x, {window})", right)
        setup.append(f"image = torch.zeros({image}, dtype=x.dtype, requires_grad=True)")
        forward = f"torchs.conv{dims}d(image, taps, None, {convolution})"
        right = f"[torch.autograd.grad(y, image, x.reshape(y.shape))[0] for y in [{forward}]]"
        return Program(setup, f"F.col2im(x, {self.size}, {window})", right)
