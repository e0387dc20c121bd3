"""Tensors that belong to a report, in a safetensors file beside it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pyinit._torch.digests import digest
from pyinit.reports.files import check_output, replacing


class Tensors(dict[str, Tensor]):
    """Tensors by name. They are equal to others if all of their elements are, bit for bit."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and self.digests() == Tensors(other).digests()

    __hash__ = None

    def digests(self) -> dict[str, list[Any]]:
        """For each, what tells it from others: dtype, shape and 64 bits of its elements."""
        return {
            name: [str(tensor.dtype), list(tensor.shape), digest(tensor.cpu().contiguous())]
            for name, tensor in self.items()
        }

    def save_beside(self, path: Path) -> None:
        """Write them as the safetensors file with the report's name, if there are any.

        Raises:
            OSError: If the file cannot be written.
        """
        if not self:
            return
        beside = path.with_suffix(".safetensors")
        check_output(beside, ".safetensors")
        with replacing(beside) as partial:
            save_file({name: t.detach().cpu().contiguous() for name, t in self.items()}, partial)

    @classmethod
    def beside(cls, path: Path, report: object) -> "Tensors":
        """Read those that a report names, from the file beside it.

        Args:
            path: The path of the report's file.
            report: What ``InitReport.to_dict`` gave; anything else names none.

        Raises:
            ValueError: If they are not those that the report was saved with.
            OSError: If the file cannot be read.
        """
        digests = report.get("tensors") if isinstance(report, Mapping) else None
        if not digests:
            return cls()
        if not isinstance(digests, Mapping):
            raise ValueError(f"tensors must be a table, got {digests!r:.40}")  # noqa: TRY004
        beside = path.with_suffix(".safetensors")
        try:
            found = cls(load_file(beside))
        except SafetensorError as error:
            raise ValueError(f"{beside}: no safetensors file: {error}") from None
        if found.digests() != digests:
            raise ValueError(f"{beside}: holds other tensors than {path.name} was saved with")
        return found
