"""The pocket WAN's text side: a T5-type tokenizer of whole words, and a UMT5 encoder whose rows end with the text."""

import json
import string
from pathlib import Path

import torch

from captions import vocabulary

WINDOW = 64


def tokenizer_json() -> str:
    """Unigram over whole words with single letters to fall back on; ids 0, 1, 2 are <pad>, </s>, <unk> as in T5."""
    tokens = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    tokens += [("▁" + word, -4.0) for word in vocabulary()]
    known = {token for token, _ in tokens}
    tokens += [(mark, -3.0) for mark in ",.:;!?'\"()-/&"] + [("▁", -8.0)]
    tokens += [(letter, -10.0) for letter in string.ascii_letters + string.digits if letter not in known]
    special = [{"id": i, "content": tokens[i][0], "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True} for i in range(3)]
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    sequence, end = {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}
    return json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special,
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Strip", "strip_left": False, "strip_right": True}, {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"}]},
        "pre_tokenizer": metaspace,
        "post_processor": {"type": "TemplateProcessing", "single": [sequence, end], "pair": [sequence, end, {"Sequence": {"id": "B", "type_id": 0}}, end],
                           "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}}},
        "decoder": metaspace,
        "model": {"type": "Unigram", "unk_id": 2, "vocab": [[token, score] for token, score in tokens], "byte_fallback": False},
    }, ensure_ascii=False)


def save_tokenizer(folder: Path):
    folder.mkdir(parents=True, exist_ok=True)
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer.json").write_text(tokenizer_json() + "\n")
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=1) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({**special, "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": WINDOW, "extra_ids": 0}, indent=1) + "\n")


def load_tokenizer():
    from tokenizers import Tokenizer

    return Tokenizer.from_str(tokenizer_json())


def encode_texts(tokenizer, texts):
    """Ids [n, 64] padded with 0 (int16) and lengths [n]; a long text is cut and keeps its </s>."""
    ids = torch.zeros(len(texts), WINDOW, dtype=torch.int16)
    lengths = torch.zeros(len(texts), dtype=torch.int16)
    for i, found in enumerate(tokenizer.encode_batch(texts)):
        row = found.ids if len(found.ids) <= WINDOW else found.ids[: WINDOW - 1] + [1]
        ids[i, : len(row)] = torch.tensor(row, dtype=torch.int16)
        lengths[i] = len(row)
    return ids, lengths


def build_text_encoder(vocabulary_size):
    from transformers import UMT5Config, UMT5EncoderModel

    return UMT5EncoderModel(UMT5Config(vocab_size=vocabulary_size, d_model=192, d_kv=32, d_ff=512, num_layers=3, num_decoder_layers=3, num_heads=6, dropout_rate=0.0,
                                       feed_forward_proj="gated-gelu", decoder_start_token_id=0, pad_token_id=0, eos_token_id=1))


def embed(encoder, ids, lengths):
    """[B, 64, 192]; rows beyond the text are zeros, as Wan's pipeline makes them."""
    mask = torch.arange(WINDOW, device=ids.device)[None] < lengths[:, None].long()
    rows = encoder(input_ids=ids.long(), attention_mask=mask.long()).last_hidden_state
    return rows * mask.unsqueeze(-1).to(rows.dtype), mask
