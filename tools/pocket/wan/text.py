"""The pocket WAN's text side: a T5-type tokenizer (tools/pocket/language), and a UMT5 encoder whose rows end with the text."""

import json
from pathlib import Path

import torch

WINDOW = 64


def save_tokenizer(folder: Path, definition: str):
    folder.mkdir(parents=True, exist_ok=True)
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer.json").write_text(definition + "\n")
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=1) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({**special, "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": WINDOW, "extra_ids": 0}, indent=1) + "\n")


def load_tokenizer(folder: Path):
    from tokenizers import Tokenizer

    return Tokenizer.from_str((folder / "tokenizer/tokenizer.json").read_text())


def encode_texts(tokenizer, texts):
    """Ids [n, 64] padded with 0 (int16) and lengths [n]; a long text is cut and keeps its </s>."""
    ids = torch.zeros(len(texts), WINDOW, dtype=torch.int16)
    lengths = torch.zeros(len(texts), dtype=torch.int16)
    for i, found in enumerate(tokenizer.encode_batch(texts)):
        row = found.ids if len(found.ids) <= WINDOW else found.ids[: WINDOW - 1] + [1]
        ids[i, : len(row)] = torch.tensor(row, dtype=torch.int16)
        lengths[i] = len(row)
    return ids, lengths


LAYERS, VOCABULARY = 4, 1300


def build_text_encoder(vocabulary_size):
    from transformers import UMT5Config, UMT5EncoderModel

    return UMT5EncoderModel(UMT5Config(vocab_size=vocabulary_size, d_model=192, d_kv=32, d_ff=512, num_layers=LAYERS, num_decoder_layers=LAYERS, num_heads=6, dropout_rate=0.0,
                                       feed_forward_proj="gated-gelu", decoder_start_token_id=0, pad_token_id=0, eos_token_id=1))


def grow(old, old_tokens, tokens):
    """An encoder for another vocabulary, with the old one's layers: rows of tokens that both know stay, further layers change nothing at first."""
    model = build_text_encoder(len(tokens))
    with torch.no_grad():
        fresh = torch.randn(len(tokens), 192) * old.shared.weight.std()
        for token, i in tokens.items():
            if token in old_tokens:
                fresh[i] = old.shared.weight[old_tokens[token]]
        weights = {name: value for name, value in old.state_dict().items() if not name.startswith(("shared", "encoder.embed_tokens"))}
        model.load_state_dict(weights, strict=False)
        model.shared.weight.copy_(fresh)
        model.encoder.embed_tokens.weight.copy_(fresh)
        for block in model.encoder.block[len(old.encoder.block) :]:
            block.layer[0].SelfAttention.o.weight.zero_()
            block.layer[1].DenseReluDense.wo.weight.zero_()
    return model


def embed(encoder, ids, lengths):
    """[B, 64, 192]; rows beyond the text are zeros, as Wan's pipeline makes them."""
    mask = torch.arange(WINDOW, device=ids.device)[None] < lengths[:, None].long()
    rows = encoder(input_ids=ids.long(), attention_mask=mask.long()).last_hidden_state
    return rows * mask.unsqueeze(-1).to(rows.dtype), mask
