"""What the exporters share: fused attention, one call of the exporter, weights stored as fp16, comparison with torch."""

import hashlib
import json
import math
import os
import tempfile
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
    """Traces `module(*inputs.values())` with the TorchScript exporter: the one that takes diffusers' modules unchanged.

    Beyond protobuf's 2 GB the exporter writes a file a weight; those are gathered into `<path>_data`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    device = next(module.parameters()).device
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        traced = Path(scratch) / path.name
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(module.eval(), tuple(value.to(device) for value in inputs.values()), str(traced), input_names=list(inputs), output_names=outputs,
                              dynamic_axes=dynamic_axes, opset_version=OPSET, dynamo=False, custom_opsets={"com.microsoft": 1})
        if len(list(Path(scratch).iterdir())) > 1:
            share_weights([traced], f"{path.name}_data")
            os.replace(traced.with_name(f"{path.name}_data"), path.with_name(f"{path.name}_data"))
        os.replace(traced, path)


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
    save_graph(model, path)


def save_graph(model, path: Path, largest: int = 1_800_000_000) -> None:
    """One file, or with more than `largest` bytes of weights the graph and `<path>_data`: protobuf ends at 2 GB."""
    data = path.with_name(f"{path.name}_data")
    data.unlink(missing_ok=True)
    if sum(len(tensor.raw_data) for tensor in model.graph.initializer) <= largest:
        onnx.save(model, str(path))
    else:
        onnx.save(model, str(path), save_as_external_data=True, all_tensors_to_one_file=True, location=data.name)


def raw_bytes(tensor, folder: Path) -> bytes:
    """A weight's values, whether they lie in the graph or in a file beside it."""
    if tensor.data_location != TensorProto.EXTERNAL:
        return numpy_helper.to_array(tensor).tobytes()
    place = {entry.key: entry.value for entry in tensor.external_data}
    with open(folder / place["location"], "rb") as file:
        file.seek(int(place.get("offset", 0)))
        return file.read(int(place["length"])) if "length" in place else file.read()


def share_weights(paths: list, data_name: str) -> None:
    """Moves the weights of one or several graphs of one folder into one external file, equal ones stored once."""
    offsets: dict = {}
    with open(paths[0].parent / data_name, "wb") as data:
        for path in paths:
            model = onnx.load(str(path), load_external_data=False)
            # the exporter also writes large constants of nodes to files of their own; they are few and small beside the weights
            for tensor in (attribute.t for node in model.graph.node for attribute in node.attribute if attribute.HasField("t")):
                if tensor.data_location == TensorProto.EXTERNAL:
                    keep_inside(tensor, raw_bytes(tensor, path.parent))
            for tensor in model.graph.initializer:
                raw = raw_bytes(tensor, path.parent)
                if len(raw) < 1024:
                    if tensor.data_location == TensorProto.EXTERNAL:
                        keep_inside(tensor, raw)
                    continue
                key = (hashlib.sha256(raw).digest(), len(raw))
                if key not in offsets:
                    data.seek(math.ceil(data.tell() / 64) * 64)
                    offsets[key] = data.tell()
                    data.write(raw)
                tensor.ClearField("raw_data")
                tensor.ClearField("float_data")
                tensor.data_location = TensorProto.EXTERNAL
                del tensor.external_data[:]
                for name, value in (("location", data_name), ("offset", offsets[key]), ("length", len(raw))):
                    tensor.external_data.add(key=name, value=str(value))
            onnx.save(model, str(path))


def keep_inside(tensor, raw: bytes) -> None:
    del tensor.external_data[:]
    tensor.data_location = TensorProto.DEFAULT
    tensor.raw_data = raw


def forget_origin(folder: Path) -> None:
    """Takes out of every config where the checkpoint lay, and infinities: Python writes them, JSON does not know them."""
    for file in folder.rglob("*.json"):
        config = json.loads(file.read_text())
        if not isinstance(config, dict):
            continue
        kept = {key: value for key, value in config.items() if key != "_name_or_path" and not (isinstance(value, float) and math.isinf(value))}
        if kept != config:
            file.write_text(json.dumps(kept, indent=2, allow_nan=False) + "\n")


def psnr(a: np.ndarray, b: np.ndarray, peak: float) -> float:
    """Decibels; infinite when equal."""
    error = float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2))
    return math.inf if error == 0 else 10 * math.log10(peak**2 / error)


def compare(name: str, path: Path, module, inputs: dict, least: float = 50) -> bool:
    """Runs the graph on the CPU beside `module` (torch); prints PSNR and the largest difference. True from `least` dB."""
    with torch.no_grad():
        expected = module(*inputs.values())
    return compare_values(name, run_graph(path, inputs), expected if isinstance(expected, tuple) else (expected,), least)


def run_graph(path: Path, inputs: dict) -> list:
    """The graph's outputs on the CPU; inputs that the exporter dropped as unused are left out."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    known = {item.name for item in session.get_inputs()}
    return session.run(None, {key: value.numpy() for key, value in inputs.items() if key in known})


def compare_values(name: str, actual, expected, least: float = 50) -> bool:
    """Prints PSNR (peak: the reference's largest magnitude) and the largest difference over all pairs."""
    worst = min(psnr(a, e.numpy(), float(e.abs().max()) or 1.0) for a, e in zip(actual, expected, strict=True))
    largest = max(float(np.abs(a - e.numpy()).max()) for a, e in zip(actual, expected, strict=True))
    print(f"{name:28} {worst:7.1f} dB   largest difference {largest:.2e}   {'ok' if worst >= least else 'DIFFERS'}")
    return worst >= least
