"""The language model of the enhancer: a pretrained Qwen3 or Qwen3.5, or a tiny Qwen3 around a tokenizer of its own."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from qi2.core import rng
from qi2.core.errors import QI2Error
from qi2.enhancer.config import EnhancerModelConfig
from qi2.enhancer.quotes import MARKS
from qi2.enhancer.template import END, TAGS
from qi2.models.storage import device_of
from qi2.models.tokenizer import train_tokenizer


def start(config: EnhancerModelConfig, corpus: Iterable[str], seed: int, device: str = "cpu") -> tuple[Any, Any]:
    """Model and tokenizer to train: those of ``path``, else a tiny Qwen3 with a tokenizer trained on the corpus, in which every tag and mark is one token."""
    if config.path:
        return load(Path(config.path), device)
    tokenizer = train_tokenizer(corpus, config.vocabulary)
    tokenizer.add_tokens([*TAGS, *MARKS])
    tokenizer.eos_token, tokenizer.padding_side = END, "left"
    torch.manual_seed(rng.key(seed, "enhancer/init"))
    return _tiny(config, tokenizer).to(device_of(device)), tokenizer


def load(folder: Path, device: str = "cpu") -> tuple[Any, Any]:
    """A causal model and its tokenizer from a folder or a hub id. Raises QI2Error where it is none, or the device is not here."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = device_of(device)
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(str(folder), dtype="auto")
    except (OSError, ValueError, KeyError) as error:
        raise QI2Error(f"{folder} holds no causal language model ({str(error).splitlines()[0]}); name a Qwen3 or Qwen3.5 folder or hub id") from error
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    tokenizer.padding_side = "left"
    return model.to(place).eval(), tokenizer


def _tiny(config: EnhancerModelConfig, tokenizer: Any) -> Any:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    settings = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=config.width, intermediate_size=3 * config.width, num_hidden_layers=config.layers,
        num_attention_heads=config.heads, num_key_value_heads=config.heads, head_dim=config.width // config.heads, tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id, bos_token_id=None,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )  # fmt: skip
    return Qwen3ForCausalLM(settings).eval()


def adapted(model: Any, rank: int) -> Any:
    """The model with peft's adapters of a rank, which alone are trained; itself where the rank is 0."""
    if not rank:
        return model
    from peft import LoraConfig, get_peft_model

    return get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM"))


def merged(model: Any) -> Any:
    """The plain model with its adapters added to the weights, where it has any."""
    return model.merge_and_unload() if hasattr(model, "merge_and_unload") else model
