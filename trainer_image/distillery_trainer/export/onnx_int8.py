"""An fp32 graph with weights of 8 bits: 32 neighbours of a matrix's column, or of an embedding's row, share a scale.

Activations are quantized at run time in the same blocks, so no calibration rows are needed, and an outlier costs only its block precision.
ONNX's own operators know one scale for all activations of a batch: with those a student of 81M parameters labelled 2.6 points worse than
in fp32, with these as well (docs/benchmarks.md). They are ONNX Runtime's operators; their sums overflow neither with VNNI nor without.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
from onnx import helper, numpy_helper
from onnx_ir.passes.common import DeduplicateHashedInitializersPass
from onnxruntime.quantization.matmul_nbits_quantizer import (  # type: ignore[import-untyped]
    DefaultWeightOnlyQuantConfig,
    DefaultWeightOnlyQuantizer,
    MatMulNBitsQuantizer,
)
from onnxruntime.quantization.onnx_model import ONNXModel  # type: ignore[import-untyped]

#: Weights that share a scale: as many as in GGUF's Q8_0.
BLOCK = 32
#: Level 4: products of integers, activations quantized in blocks.
_CONFIG = DefaultWeightOnlyQuantConfig(BLOCK, is_symmetric=True, bits=8, accuracy_level=4)


def quantize(source: Path, target: Path) -> Path:
    """Write the int8 form of `source` (weights beside it) to `target`; returns `target`."""
    for name in ("onnxruntime.quantization", "onnx_ir.passes"):
        logging.getLogger(name).setLevel(logging.WARNING)  # they tell of each node
    model = onnx.load(source)
    ONNXModel(model).replace_gemm_with_matmul()
    _untie(model.graph)
    _embed_int8(model.graph)
    quantizer = MatMulNBitsQuantizer(model, algo_config=_CONFIG)
    quantizer.process()
    small = onnx_ir.from_proto(quantizer.model.model)
    DeduplicateHashedInitializersPass()(small)  # a head that is tied to the embedding has the same blocks
    onnx_ir.save(small, target, external_data=f"{target.name}.data")
    return target


def _untie(graph: onnx.GraphProto) -> None:
    """A head that is the transposed embedding becomes a matrix of its own: only constants are quantized."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for node in [n for n in graph.node if n.op_type == "Transpose" and n.input[0] in weights]:
        matrix = numpy_helper.to_array(weights[node.input[0]]).T
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(matrix), node.output[0]))
        graph.node.remove(node)


def _embed_int8(graph: onnx.GraphProto) -> None:
    """Keep token embeddings as blocks of bytes too; the rows of the tokens alone become numbers. A width of odd size stays as it is."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for node in [n for n in graph.node if n.op_type == "Gather" and n.input[0] in weights and n.input[1] == "input_ids"]:
        name = node.input[0]
        table = numpy_helper.to_array(weights[name])
        if table.shape[1] % BLOCK:
            continue
        bytes_, scales, _ = DefaultWeightOnlyQuantizer(_CONFIG).qbits_block_quant(np.ascontiguousarray(table.T))
        constants = {"bytes": bytes_, "scales": scales, "shape": np.array(table.shape)}
        graph.initializer.extend(numpy_helper.from_array(value, f"{name}_{key}") for key, value in constants.items())
        rows = helper.make_node(
            "GatherBlockQuantized",
            [f"{name}_table", node.input[1], f"{name}_scales"],
            node.output,
            domain="com.microsoft",
            gather_axis=0,
            quantize_axis=1,
            block_size=BLOCK,
            bits=8,
        )
        at = list(graph.node).index(node)
        graph.node.remove(node)
        graph.node.insert(at, rows)
        # the head's matrix has its bytes in three dimensions: in the same, one copy serves both
        graph.node.insert(at, helper.make_node("Reshape", [f"{name}_bytes", f"{name}_shape"], [f"{name}_table"]))
        if not any(name in other.input for other in graph.node):
            graph.initializer.remove(weights[name])
