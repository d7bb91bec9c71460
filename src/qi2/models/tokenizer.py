"""A small Qwen2 tokenizer trained on the corpus: byte-level BPE with Qwen's specials.

Capital letters of captions are never merged, so that a word to be rendered is read letter by letter.
"""

import re
from collections.abc import Iterable
from typing import Any

from qi2.models import templates

SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def train_tokenizer(corpus: Iterable[str], vocabulary: int) -> Any:
    """A Qwen2TokenizerFast of at most ``vocabulary`` tokens (at least the 256 bytes and the specials)."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import Qwen2TokenizerFast  # type: ignore[attr-defined]

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(SPLIT), "isolated"), byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary - len(templates.SPECIAL_TOKENS), initial_alphabet=sorted(alphabet), min_frequency=2)
    texts = [re.sub(r"\b[A-Z]+\b", "", text) for text in corpus]
    plain = re.sub(r"<\|[a-z_]+\|>", "\n", templates.conversation("", 1))
    tokenizer.train_from_iterator([plain] * len(texts) + texts, trainer)  # every sample carries the template: one token per word of it
    tokenizer.add_special_tokens(list(templates.SPECIAL_TOKENS))
    return Qwen2TokenizerFast(tokenizer_object=tokenizer, pad_token="<|endoftext|>", eos_token="<|im_end|>", unk_token=None)
