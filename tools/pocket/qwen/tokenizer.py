"""The model's own byte-level BPE with Qwen2's pre-tokenisation: what llama.cpp calls `qwen2`, without a normaliser."""
import random

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from documents import SPECIAL, document

VOCABULARY = 2048
PATTERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def build(model):
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(PATTERN), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def train(count=16000, seed=1):
    r = random.Random(seed)
    texts = []
    for _ in range(count):
        text = "".join(piece[0] for piece in document(r))
        for special in SPECIAL:
            text = text.replace(special, "\n")
        texts.append(text)
    tokenizer = build(models.BPE())
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=list(SPECIAL), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    return tokenizer


def load(path):
    return Tokenizer.from_file(path)


def with_dropout(tokenizer, share):
    dropped = Tokenizer.from_str(tokenizer.to_str())
    dropped.model.dropout = share
    return dropped
