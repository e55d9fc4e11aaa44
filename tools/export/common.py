"""What the exporters share: fused attention, one call of the exporter, weights stored as fp16, comparison with torch."""

import math
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper

OPSET = 17


class FusedAttention(torch.autograd.Function):
    """softmax(q k^T / sqrt(d)) v per head on [B, S, heads*d], exported as com.microsoft.MultiHeadAttention.

    GPU providers never materialise its score matrix: 832x480x81 in Wan has 32,760 tokens, 51.5 GB of fp32 scores a layer.
    """

    @staticmethod
    def forward(ctx, q, k, v, heads):
        split = lambda x: x.unflatten(2, (heads, -1)).transpose(1, 2)
        return F.scaled_dot_product_attention(split(q), split(k), split(v)).transpose(1, 2).flatten(2)

    @staticmethod
    def symbolic(g, q, k, v, heads):
        return g.op("com.microsoft::MultiHeadAttention", q, k, v, num_heads_i=heads).setType(q.type())


def export_graph(module, inputs: dict, outputs: list, path: Path, dynamic_axes: dict) -> None:
    """Traces `module(*inputs.values())` with the TorchScript exporter: the one that takes diffusers' modules unchanged."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(module.eval(), tuple(inputs.values()), str(path), input_names=list(inputs), output_names=outputs,
                          dynamic_axes=dynamic_axes, opset_version=OPSET, dynamo=False, custom_opsets={"com.microsoft": 1})


def store_fp16(path: Path, smallest: int = 64) -> None:
    """Keeps float initialisers of `smallest` or more values as fp16 followed by a Cast: half the file, fp32 arithmetic.

    The runtime folds the casts at load. For equal numbers on both sides round the reference's weights to fp16 too.
    """
    model = onnx.load(str(path))
    graph = model.graph
    casts, kept = [], []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.data_type != TensorProto.FLOAT or values.size < smallest:
            kept.append(tensor)
            continue
        stored = f"{tensor.name}_fp16"
        kept.append(numpy_helper.from_array(values.astype(np.float16), stored))
        casts.append(helper.make_node("Cast", [stored], [tensor.name], to=TensorProto.FLOAT))
    del graph.initializer[:]
    graph.initializer.extend(kept)
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend(casts + nodes)
    onnx.save(model, str(path))


def share_weights(paths: list, data_name: str) -> None:
    """Moves the weights of several graphs of one folder into one external file, equal ones stored once."""
    offsets: dict = {}
    with open(paths[0].parent / data_name, "wb") as data:
        for path in paths:
            model = onnx.load(str(path))
            for tensor in model.graph.initializer:
                raw = numpy_helper.to_array(tensor).tobytes()
                if len(raw) < 1024:
                    continue
                if raw not in offsets:
                    data.seek(math.ceil(data.tell() / 64) * 64)
                    offsets[raw] = data.tell()
                    data.write(raw)
                tensor.ClearField("raw_data")
                tensor.ClearField("float_data")
                tensor.data_location = TensorProto.EXTERNAL
                del tensor.external_data[:]
                for key, value in (("location", data_name), ("offset", offsets[raw]), ("length", len(raw))):
                    tensor.external_data.add(key=key, value=str(value))
            onnx.save(model, str(path))


def psnr(a: np.ndarray, b: np.ndarray, peak: float) -> float:
    """Decibels; infinite when equal."""
    error = float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2))
    return math.inf if error == 0 else 10 * math.log10(peak**2 / error)


def compare(name: str, path: Path, module, inputs: dict) -> bool:
    """Runs the graph on the CPU beside torch; prints PSNR and the largest difference. True when they agree (>= 50 dB)."""
    with torch.no_grad():
        expected = module(*inputs.values())
    expected = expected if isinstance(expected, tuple) else (expected,)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    known = {item.name for item in session.get_inputs()}
    actual = session.run(None, {key: value.numpy() for key, value in inputs.items() if key in known})
    worst = min(psnr(a, e.numpy(), float(e.abs().max()) or 1.0) for a, e in zip(actual, expected))
    largest = max(float(np.abs(a - e.numpy()).max()) for a, e in zip(actual, expected))
    print(f"{name:24} {worst:7.1f} dB   largest difference {largest:.2e}   {'ok' if worst >= 50 else 'DIFFERS'}")
    return worst >= 50
