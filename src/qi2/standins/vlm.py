"""The tiny Qwen3-VL that the line trains where no pretrained one is given, and then freezes.

It learns three tasks, all in the condition encoder's own conversation: image -> caption by next-token prediction (so that it can
caption), and text -> structured caption and (references, edit instruction) -> structured caption of the result by parallel
prediction: the last tokens of the prompt's template predict the fields of the structured caption, one field each, before any token
is generated (multi-token prediction, Gloeckle et al., 2024). What an image model needs to know then stands in the hidden states
that it reads. The prediction head is dropped after training.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qi2.core import rng
from qi2.core.reporter import Reporter
from qi2.data.corpus import Corpus, Example
from qi2.models.condition import SLOT, ConditionEncoder
from qi2.standins.config import VLMConfig
from qi2.standins.tokenizer import train_tokenizer
from qi2.training.config import OptimizerConfig
from qi2.training.fit import StepModule, fit

FIELD_TOKENS = 3


def build_vlm(config: VLMConfig, corpus: Sequence[str]) -> ConditionEncoder:
    """An untrained tiny Qwen3-VL around a tokenizer trained on ``corpus``."""
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    tokenizer = train_tokenizer(corpus, config.vocabulary)
    pair = config.width // config.heads // 2
    sections = [pair - 2 * (pair // 3), pair // 3, pair // 3]
    ids = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("image_pad", "video_pad", "vision_start", "vision_end")}
    text = {
        "vocab_size": len(tokenizer), "hidden_size": config.width, "intermediate_size": 3 * config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads, "num_key_value_heads": config.heads, "head_dim": config.width // config.heads,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": sections, "mrope_interleaved": True},
        "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id,
    }  # fmt: skip
    vision = {
        "depth": config.vision_layers, "hidden_size": config.width, "intermediate_size": 3 * config.width, "num_heads": config.heads,
        "patch_size": 16, "spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": config.width,
        "num_position_embeddings": 64, "deepstack_visual_indexes": [0],
    }  # fmt: skip
    settings = Qwen3VLConfig(
        text_config=text, vision_config=vision, image_token_id=ids["image_pad"], video_token_id=ids["video_pad"],
        vision_start_token_id=ids["vision_start"], vision_end_token_id=ids["vision_end"], tie_word_embeddings=True,
    )  # fmt: skip
    processor = Qwen2VLImageProcessorPil(
        patch_size=16, merge_size=2, temporal_patch_size=2, size={"shortest_edge": SLOT * SLOT, "longest_edge": 4096 * 4096},
        image_mean=[0.5] * 3, image_std=[0.5] * 3,
    )  # fmt: skip
    return ConditionEncoder(Qwen3VLForConditionalGeneration(settings), tokenizer, processor)


class VLMModule(StepModule):
    """Next-token prediction of captions, parallel prediction of structured fields."""

    def __init__(self, encoder: ConditionEncoder, corpus: Corpus, config: VLMConfig, seed: int) -> None:
        super().__init__(config.steps)
        self.encoder, self.corpus, self.config, self.seed = encoder, corpus, config, seed
        self.model = encoder.model.requires_grad_(True)
        self.fields = nn.Linear(encoder.width, FIELD_TOKENS * encoder.width, bias=False)

    def batch(self, step: int) -> dict[str, Tensor]:
        draw = rng.numpy_rng(self.seed, "vlm/batch", step)
        task = self.corpus.turn(step)
        examples = self.corpus.draw(draw, task, self.config.batch_size)
        return caption_batch(self.encoder, examples) if task == "image" else field_batch(self.encoder, examples, self.config.fields)

    def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
        name, loss = ("caption", self.caption_loss(batch)) if "labels" in batch else ("fields", self.field_loss(batch))
        self.log(f"vlm/{name}_loss", loss.detach())
        return loss

    def caption_loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Cross-entropy of the answers' tokens."""
        labels = batch.pop("labels")
        logits = self.model.lm_head(self.model.model(**batch, use_cache=False).last_hidden_state)
        return F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)

    def field_loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Cross-entropy of all fields' tokens."""
        truth = batch.pop("truth")
        return F.cross_entropy(self.field_logits(batch).flatten(0, 2), truth.flatten(), ignore_index=-100)

    def field_logits(self, batch: dict[str, Tensor]) -> Tensor:
        """(B, fields, FIELD_TOKENS, vocabulary) from the states of the prompt's last ``fields`` tokens."""
        n, ends = self.config.fields, batch["attention_mask"].sum(1)
        hidden = self.model.model(**batch, use_cache=False).last_hidden_state
        tail = hidden[torch.arange(len(hidden))[:, None], ends[:, None] - n + torch.arange(n)]
        return self.model.lm_head(self.fields(tail).unflatten(-1, (FIELD_TOKENS, -1)))

    def configure_optimizers(self) -> Any:
        settings = OptimizerConfig("muon", self.config.muon_lr, self.config.lr, self.config.weight_decay)
        return self.scheduled(self, settings, lambda name: "layers" in name or "blocks" in name)


def caption_batch(encoder: ConditionEncoder, examples: Sequence[Example]) -> dict[str, Tensor]:
    """Inputs of whole conversations, and ``labels`` on the answers only."""
    inputs = encoder.batch([e.prompt for e in examples], [list(e.images) for e in examples], [e.answer for e in examples])
    answers = encoder.tokenizer([e.answer + "<|im_end|>" for e in examples]).input_ids
    ends = inputs["attention_mask"].sum(1)
    start = ends - torch.tensor([len(a) for a in answers])
    columns = torch.arange(inputs["input_ids"].shape[1])
    answered = (columns >= start[:, None]) & (columns < ends[:, None])
    return inputs | {"labels": inputs["input_ids"].masked_fill(~answered, -100)}


def field_batch(encoder: ConditionEncoder, examples: Sequence[Example], fields: int) -> dict[str, Tensor]:
    """Inputs of prompts, and ``truth`` (B, fields, FIELD_TOKENS): the token ids of the structured caption's fields."""
    inputs = encoder.batch([e.prompt for e in examples], [list(e.images) for e in examples])
    truth = torch.full((len(examples), fields, FIELD_TOKENS), -100)
    for i, example in enumerate(examples):
        texts = re.split(r" [;,] ", example.answer)[:fields]
        for k, ids in enumerate(encoder.tokenizer([" " + text for text in texts]).input_ids):
            truth[i, k, : len(ids)] = torch.tensor(ids[:FIELD_TOKENS])
    return inputs | {"truth": truth}


@torch.no_grad()
def field_accuracy(module: VLMModule, examples: Sequence[Example]) -> float:
    """Share of examples whose fields are all right."""
    batch = field_batch(module.encoder, examples, module.config.fields)
    truth = batch.pop("truth")
    return float(((module.field_logits(batch).argmax(-1) == truth) | (truth == -100)).flatten(1).all(1).float().mean())


def train_vlm(
    config: VLMConfig, corpus: Corpus, out: Path, seed: int, reporter: Reporter, checkpoints: Path | None = None
) -> dict[str, float]:
    """Train the tiny Qwen3-VL and save it as a transformers folder; returns metrics on held-out examples."""
    torch.manual_seed(rng.key(seed, "vlm/init"))
    encoder = build_vlm(config, corpus.texts())
    module = VLMModule(encoder, corpus, config, seed)
    fit(module, "vlm", reporter, checkpoints=checkpoints)
    metrics = {f"vlm/{task}_fields": field_accuracy(module, examples) for task, examples in corpus.heldout().items() if task != "image"}
    save_vlm(encoder, out)
    return metrics


def save_vlm(encoder: ConditionEncoder, out: Path) -> None:
    """Write model, tokenizer and image processor as transformers does."""
    encoder.model.save_pretrained(out)
    encoder.tokenizer.save_pretrained(out)
    encoder.image_processor.save_pretrained(out)
