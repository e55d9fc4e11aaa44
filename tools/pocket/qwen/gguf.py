"""A GGUF version 3 file of the model, as llama.cpp reads the architecture `qwen2` (format: ggml's docs/gguf.md)."""
import json
import struct

import numpy as np

ALIGNMENT = 32
U32, I32, F32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
CHAT_TEMPLATE = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
                 "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")


def string(text):
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def value(kind, v):
    if kind == STRING:
        return string(v)
    if kind == ARRAY:
        element, items = v
        return struct.pack("<IQ", element, len(items)) + b"".join(value(element, x) for x in items)
    return struct.pack({U32: "<I", I32: "<i", F32: "<f", BOOL: "<?"}[kind], v)


def tensor_names(layers):
    names = {"embed_tokens.weight": "token_embd.weight", "norm.weight": "output_norm.weight"}
    for n in range(layers):
        names |= {f"layers.{n}.input_layernorm.weight": f"blk.{n}.attn_norm.weight", f"layers.{n}.post_attention_layernorm.weight": f"blk.{n}.ffn_norm.weight",
                  f"layers.{n}.self_attn.o_proj.weight": f"blk.{n}.attn_output.weight"}
        for part in "qkv":
            for what in ("weight", "bias"):
                names[f"layers.{n}.self_attn.{part}_proj.{what}"] = f"blk.{n}.attn_{part}.{what}"
        for part in ("gate", "up", "down"):
            names[f"layers.{n}.mlp.{part}_proj.weight"] = f"blk.{n}.ffn_{part}.weight"
    return names


def write(path, state, config, tokenizer_json):
    """`state`: name -> float array with torch's shapes. Matrices are stored as f16, vectors as f32."""
    spec = json.loads(tokenizer_json)
    vocabulary = sorted(spec["model"]["vocab"], key=spec["model"]["vocab"].get)
    special = {t["content"] for t in spec["added_tokens"]}
    merges = [" ".join(m) if isinstance(m, list) else m for m in spec["model"]["merges"]]
    # No bos_token_id: chat wrappers would put that token before every conversation, which the model has never seen.
    fields = [
        ("general.architecture", STRING, "qwen2"), ("general.type", STRING, "model"), ("general.name", STRING, "Pocket Qwen"),
        ("general.file_type", U32, 1), ("general.quantization_version", U32, 2),
        ("qwen2.block_count", U32, config["layers"]), ("qwen2.context_length", U32, config["context"]), ("qwen2.embedding_length", U32, config["width"]),
        ("qwen2.feed_forward_length", U32, config["feed_forward"]), ("qwen2.attention.head_count", U32, config["heads"]), ("qwen2.attention.head_count_kv", U32, config["kv_heads"]),
        ("qwen2.rope.freq_base", F32, config["rope_base"]), ("qwen2.attention.layer_norm_rms_epsilon", F32, config["rms_eps"]),
        ("tokenizer.ggml.model", STRING, "gpt2"), ("tokenizer.ggml.pre", STRING, "qwen2"),
        ("tokenizer.ggml.tokens", ARRAY, (STRING, vocabulary)), ("tokenizer.ggml.token_type", ARRAY, (I32, [3 if t in special else 1 for t in vocabulary])),
        ("tokenizer.ggml.merges", ARRAY, (STRING, merges)),
        ("tokenizer.ggml.eos_token_id", U32, vocabulary.index("<|im_end|>")), ("tokenizer.ggml.padding_token_id", U32, vocabulary.index("<|endoftext|>")),
        ("tokenizer.ggml.add_bos_token", BOOL, False), ("tokenizer.chat_template", STRING, CHAT_TEMPLATE),
    ]
    tensors = [(to, np.ascontiguousarray(state[name], dtype=np.float16 if state[name].ndim == 2 else np.float32)) for name, to in tensor_names(config["layers"]).items()]
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(fields)) + b"".join(string(k) + struct.pack("<I", kind) + value(kind, v) for k, kind, v in fields)
    offset, data = 0, []
    for name, array in tensors:
        head += string(name) + struct.pack("<I", array.ndim) + struct.pack(f"<{array.ndim}Q", *reversed(array.shape)) + struct.pack("<IQ", 1 if array.dtype == np.float16 else 0, offset)
        raw = array.tobytes()
        raw += b"\0" * (-len(raw) % ALIGNMENT)
        offset += len(raw)
        data.append(raw)
    with open(path, "wb") as file:
        file.write(head + b"\0" * (-len(head) % ALIGNMENT) + b"".join(data))


def read(path, layers):
    """The tensors of such a file under torch's names, as float32."""
    data = open(path, "rb").read()
    at = 24

    def take(form):
        nonlocal at
        values = struct.unpack_from("<" + form, data, at)
        at += struct.calcsize("<" + form)
        return values if len(values) > 1 else values[0]

    def text():
        nonlocal at
        length = take("Q")
        at += length
        return data[at - length:at].decode("utf-8")

    def item(kind):
        if kind == STRING:
            return text()
        if kind == ARRAY:
            element, count = take("IQ")
            return [item(element) for _ in range(count)]
        return take({U32: "I", I32: "i", F32: "f", BOOL: "?"}[kind])

    tensors, fields = struct.unpack_from("<QQ", data, 8)
    for _ in range(fields):
        text()
        item(take("I"))
    table = []
    for _ in range(tensors):
        name, dimensions = text(), take("I")
        shape = [take("Q") for _ in range(dimensions)][::-1]
        kind, offset = take("IQ")
        table.append((name, shape, np.float16 if kind == 1 else np.float32, offset))
    begin = at + -at % ALIGNMENT
    names = {to: name for name, to in tensor_names(layers).items()}
    return {names[name]: np.frombuffer(data, dtype, int(np.prod(shape)), begin + offset).reshape(shape).astype(np.float32) for name, shape, dtype, offset in table}
