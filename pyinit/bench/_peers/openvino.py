"""OpenVINO's plugin for CPUs."""

from collections.abc import Callable
from importlib import import_module

import torch

from pyinit.bench._peers.layer import ConvolutionLayer


def compiled(layer: ConvolutionLayer) -> Callable[[], object]:
    """The layer as a model in memory, which reads and writes the layer's own tensors."""
    openvino = import_module("openvino")
    settings = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "f32",  # and not bfloat16 where the processor has that
        "ENABLE_CPU_PINNING": False,  # torch's threads and pyinit's are not bound to cores, either
    }
    model = openvino.Core().compile_model(_model(layer), "CPU", settings)
    request = model.create_infer_request()
    request.set_input_tensor(openvino.Tensor(layer.images.numpy(), shared_memory=True))
    request.set_output_tensor(openvino.Tensor(layer.output.numpy(), shared_memory=True))
    return lambda: request.infer(share_outputs=True)


def _model(layer: ConvolutionLayer) -> object:
    openvino, opset = import_module("openvino"), import_module("openvino.opset13")
    images = opset.parameter(tuple(layer.images.shape), openvino.Type.f32)
    sides = [layer.stride] * 2, [layer.padding] * 2, [layer.padding] * 2, [1, 1]
    if layer.groups == 1:
        result = opset.convolution(images, opset.constant(layer.weight.numpy()), *sides)
    else:
        weight = layer.weight.reshape(layer.groups, -1, *layer.weight.shape[1:])
        result = opset.group_convolution(images, opset.constant(weight.numpy()), *sides)
    if layer.bias is not None:
        result = opset.relu(opset.add(result, opset.constant(layer.bias[:, None, None].numpy())))
    return openvino.Model([result], [images], "convolution")
