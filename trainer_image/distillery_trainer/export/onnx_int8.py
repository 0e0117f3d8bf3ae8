"""An fp32 graph with int8 weights: one scale for each column of a matrix and each row of the embedding.

Activations are quantized at run time (DynamicQuantizeLinear), so no calibration rows are needed. Weights use 7 of the 8 bits: the
products of edge CPUs without VNNI add two of them in 16 bits, which 8 would overflow unnoticed.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic  # type: ignore[import-untyped]


def quantize(source: Path, target: Path) -> Path:
    """Write the int8 form of `source` (weights beside it) to `target`; returns `target`."""
    model = onnx.load(source)
    _untie(model.graph)
    _embed_int8(model.graph)
    prepared = source.with_name("prepared.onnx")
    onnx.save(model, prepared, save_as_external_data=True, location="prepared.onnx.data")
    del model
    logging.getLogger().disabled, before = True, logging.getLogger().disabled
    try:
        quantize_dynamic(
            prepared,
            target,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            use_external_data_format=True,
            extra_options={"MatMulConstBOnly": True, "DefaultTensorType": TensorProto.FLOAT},
        )
    finally:
        logging.getLogger().disabled = before
    return target


def _untie(graph: onnx.GraphProto) -> None:
    """A head that is the transposed embedding becomes a matrix of its own: only constants are quantized."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for node in [n for n in graph.node if n.op_type == "Transpose" and n.input[0] in weights]:
        matrix = numpy_helper.to_array(weights[node.input[0]]).T
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(matrix), node.output[0]))
        graph.node.remove(node)


def _embed_int8(graph: onnx.GraphProto) -> None:
    """Keep token embeddings as int8 rows with a scale each: row = scale * int8."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for node in [n for n in graph.node if n.op_type == "Gather" and n.input[0] in weights and n.input[1] == "input_ids"]:
        name, out = node.input[0], node.output[0]
        table = numpy_helper.to_array(weights[name])
        scale = np.maximum(np.abs(table).max(axis=1, keepdims=True) / 127, np.finfo(np.float32).tiny).astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(np.round(table / scale).astype(np.int8), f"{name}_int8"))
        graph.initializer.append(numpy_helper.from_array(scale, f"{name}_scale"))
        at = list(graph.node).index(node)
        replacement = [
            helper.make_node("Gather", [f"{name}_int8", node.input[1]], [f"{out}_int8"]),
            helper.make_node("Cast", [f"{out}_int8"], [f"{out}_unscaled"], to=TensorProto.FLOAT),
            helper.make_node("Gather", [f"{name}_scale", node.input[1]], [f"{out}_scale"]),
            helper.make_node("Mul", [f"{out}_unscaled", f"{out}_scale"], [out]),
        ]
        graph.node.remove(node)
        for offset, new in enumerate(replacement):
            graph.node.insert(at + offset, new)
        if not any(name in other.input for other in graph.node):
            graph.initializer.remove(weights[name])
