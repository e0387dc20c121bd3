"""Kernels that run over images: what columns and convolutions have in common."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

from fuzzing.case import Case, whole

Numbers = tuple[int, ...]


class Axis(NamedTuple):
    """One dimension of an image, and how the kernel runs along it."""

    size: int
    kernel: int
    stride: int
    padding: int
    dilation: int
    output_padding: int = 0

    @property
    def places(self) -> int:
        """How many places the kernel takes along the image."""
        reach = self.dilation * (self.kernel - 1)
        return max((self.size + 2 * self.padding - reach - 1) // self.stride + 1, 0)

    @property
    def transposed_places(self) -> int:
        """The size of the result of a transposed convolution."""
        reach = self.dilation * (self.kernel - 1) + self.output_padding
        return max((self.size - 1) * self.stride - 2 * self.padding + reach + 1, 0)


@dataclass(frozen=True, kw_only=True)
class Windowed(Case):
    """A case with a kernel that runs over an image of one to three dimensions."""

    by_axis: ClassVar[tuple[str, ...]] = ("size", "kernel", "stride", "padding", "dilation")
    """The fields with a number for each axis."""

    size: Numbers = whole()
    kernel: Numbers = whole()
    stride: Numbers = whole()
    padding: Numbers = whole(0)
    dilation: Numbers = whole()

    @classmethod
    def along(cls, axes: Sequence[Axis]) -> dict[str, Numbers]:
        """The fields that axes fill."""
        return {name: tuple(getattr(axis, name) for axis in axes) for name in cls.by_axis}

    @property
    def axes(self) -> list[Axis]:
        """The axes that the fields describe."""
        columns = zip(*(getattr(self, name) for name in self.by_axis), strict=True)
        return [Axis(*numbers) for numbers in columns]

    def simpler(self) -> Iterator[Case]:
        """Cases without one of several axes, and those with less in some field."""
        axes = self.axes
        for drop in range(len(axes) if len(axes) > 1 else 0):
            yield replace(self, **self.along(axes[:drop] + axes[drop + 1 :]))
        yield from super().simpler()
