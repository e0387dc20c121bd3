"""onnxruntime, whose kernels on CPUs are those of MLAS."""

from collections.abc import Callable
from importlib import import_module

import torch

from pyinit.bench._peers.layer import ConvolutionLayer

# Which every onnxruntime reads that has the same opset; onnx itself writes its newest.
_OPSET, _IR_VERSION = 17, 8


def compiled(layer: ConvolutionLayer) -> Callable[[], object]:
    """The layer as a model in memory, which reads and writes the layer's own tensors."""
    runtime = import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # As long as its threads look for work after a call, they are in the way of other libraries.
    options.add_session_config_entry("session.intra_op.spin_duration_us", "1000")
    session = runtime.InferenceSession(_model(layer), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    for bind, name, tensor in (
        (binding.bind_input, "images", layer.images),
        (binding.bind_output, "output", layer.output),
    ):
        bind(name, "cpu", 0, "float32", tuple(tensor.shape), tensor.data_ptr())
    return lambda: session.run_with_iobinding(binding)


def _model(layer: ConvolutionLayer) -> bytes:
    helper, numpy_helper = import_module("onnx.helper"), import_module("onnx.numpy_helper")
    float32 = import_module("onnx").TensorProto.FLOAT
    constants = {"weight": layer.weight} | ({} if layer.bias is None else {"bias": layer.bias})
    window = {
        "strides": [layer.stride] * 2,
        "pads": [layer.padding] * 4,
        "group": layer.groups,
    }
    if layer.bias is None:
        nodes = [helper.make_node("Conv", ["images", *constants], ["output"], **window)]
    else:
        nodes = [
            helper.make_node("Conv", ["images", *constants], ["sums"], **window),
            helper.make_node("Relu", ["sums"], ["output"]),
        ]
    images, output = (
        helper.make_tensor_value_info(name, float32, tuple(tensor.shape))
        for name, tensor in (("images", layer.images), ("output", layer.output))
    )
    graph = helper.make_graph(
        nodes,
        "convolution",
        [images],
        [output],
        [numpy_helper.from_array(tensor.numpy(), name) for name, tensor in constants.items()],
    )
    opset = helper.make_opsetid("", _OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION)
    serialized: bytes = model.SerializeToString()
    return serialized
