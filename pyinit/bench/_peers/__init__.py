"""Other libraries that convolutions can be timed beside, where they are installed."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from pyinit._messages import near, needed
from pyinit.bench._peers import onnxruntime, openvino
from pyinit.bench._peers.layer import ConvolutionLayer


class Peer(NamedTuple):
    """A library beside torch.

    modules: what is imported of it, and has to be there
    packages: what pip is to install
    compiled: makes a layer a model of its own, and returns the call that runs it
    """

    modules: tuple[str, ...]
    packages: str
    compiled: Callable[[ConvolutionLayer], Callable[[], object]]


PEERS = {
    "onnxruntime": Peer(("onnxruntime", "onnx"), "onnxruntime onnx", onnxruntime.compiled),
    "openvino": Peer(("openvino",), "openvino", openvino.compiled),
}
"""Other libraries that compute a layer, by the names that ``--peers`` takes."""


def versions(names: Iterable[str]) -> dict[str, str]:
    """The versions of peers.

    Raises:
        ValueError: if there is no such peer.
        ImportError: if one is not installed.
    """
    found = {}
    for name in names:
        if name not in PEERS:
            raise ValueError(f"unknown peer {name!r}; {near(name, PEERS)}")
        first, *_ = [
            needed(m, f"the peer {name}", m, PEERS[name].packages) for m in PEERS[name].modules
        ]
        found[name] = str(first.__version__).partition("-")[0]
    return found
