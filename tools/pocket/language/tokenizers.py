"""The pocket models' tokenizers, trained on what the grammar writes: whole words for what is often said, pieces for the rest."""

import json
from pathlib import Path

WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"
CLIP_WINDOW = 77


def bytes_as_letters() -> list:
    printable = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or 174 <= b <= 255]
    rest = [b for b in range(256) if b not in printable]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(len(rest))]


def clip_pieces(model):
    """A tokenizer that normalises and cuts as CLIP's does."""
    from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers

    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(WORDS), "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    return tokenizer


def train_clip(texts: list, folder: Path, merges: int) -> None:
    """CLIP's files in `tokenizer` and `tokenizer_2`: bytes, bytes that end a word, merges, start, end ("!" is id 0)."""
    from tokenizers import models, trainers

    tokenizer = clip_pieces(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=merges + 160, min_frequency=3, end_of_word_suffix="</w>", show_progress=False))
    found = [m if isinstance(m, str) else " ".join(m) for m in json.loads(tokenizer.to_str())["model"]["merges"]][:merges]
    symbols = bytes_as_letters()
    tokens = list(dict.fromkeys([*symbols, *(s + "</w>" for s in symbols), *(m.replace(" ", "") for m in found)])) + ["<|startoftext|>", "<|endoftext|>"]
    vocab = {token: i for i, token in enumerate(tokens)}
    assert vocab["!"] == 0
    for name, pad in (("tokenizer", "<|endoftext|>"), ("tokenizer_2", "!")):
        (folder / name).mkdir(parents=True, exist_ok=True)
        special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "pad_token": pad}
        (folder / name / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False) + "\n")
        (folder / name / "merges.txt").write_text("#version: 0.2\n" + "\n".join(found) + "\n")
        (folder / name / "special_tokens_map.json").write_text(json.dumps(special, indent=1) + "\n")
        (folder / name / "tokenizer_config.json").write_text(json.dumps({**special, "tokenizer_class": "CLIPTokenizer", "model_max_length": CLIP_WINDOW, "do_lower_case": True}, indent=1) + "\n")


def load_clip(folder: Path):
    """The tokenizer of `folder/tokenizer`, without start and end; with offsets into the text."""
    from tokenizers import models

    vocab = json.loads((folder / "tokenizer/vocab.json").read_text())
    merges = [tuple(line.split()) for line in (folder / "tokenizer/merges.txt").read_text().split("\n")[1:] if line]
    return clip_pieces(models.BPE(vocab=vocab, merges=merges, end_of_word_suffix="</w>", unk_token="<|endoftext|>"))


def train_unigram(texts: list, size: int) -> str:
    """A T5-type tokenizer.json: unigrams of what is often said and of its pieces; ids 0, 1, 2 are <pad>, </s>, <unk>. Capitals do not count."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    learner = Tokenizer(models.Unigram())
    learner.normalizer = normalizers.Lowercase()
    # marks are pieces of their own, wherever they stand
    learner.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True), pre_tokenizers.Punctuation()])
    alphabet = list("abcdefghijklmnopqrstuvwxyz0123456789▁.,:;!?'\"()-/&|+=_#%*@")
    learner.train_from_iterator(texts, trainers.UnigramTrainer(vocab_size=size, initial_alphabet=alphabet, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", max_piece_length=16, show_progress=False))
    vocab = json.loads(learner.to_str())["model"]["vocab"]
    assert [token for token, _ in vocab[:3]] == ["<pad>", "</s>", "<unk>"]
    special = [{"id": i, "content": vocab[i][0], "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True} for i in range(3)]
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    sequence, end = {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}
    return json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special,
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Lowercase"}, {"type": "Strip", "strip_left": False, "strip_right": True}, {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "}]},
        "pre_tokenizer": metaspace,
        "post_processor": {"type": "TemplateProcessing", "single": [sequence, end], "pair": [sequence, end, {"Sequence": {"id": "B", "type_id": 0}}, end],
                           "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}}},
        "decoder": metaspace,
        "model": {"type": "Unigram", "unk_id": 2, "vocab": vocab, "byte_fallback": False},
    }, ensure_ascii=False)
