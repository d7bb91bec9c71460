"""The tiny Qwen3-VL that the line trains where no pretrained one is given, and then freezes.

Three prompts, all in the condition encoder's own conversation, have one answer: a caption, an image to describe, and references with
an edit instruction each lead to the structured caption of a picture. It is learned by parallel prediction: the last tokens of the
prompt's template predict the fields of the structured caption, one field each, before any token is generated (multi-token
prediction, Gloeckle et al., 2024). What an image model needs to know then stands in the hidden states that it reads. Images also
teach next-token prediction of their captions, so that the model can caption. The field head is dropped after training.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qi2.config import as_dict
from qi2.core import rng
from qi2.core.reporter import Reporter
from qi2.data.corpus import Corpus, Example
from qi2.models.condition import CONDITION_TOKENS, SLOT, ConditionEncoder
from qi2.models.tokenizer import train_tokenizer
from qi2.standins.config import VLMConfig
from qi2.training.config import EngineConfig, OptimizerConfig
from qi2.training.fit import fit
from qi2.training.step_module import StepModule

FIELD_TOKENS = 3
IGNORED = -100  # in targets
PLACE_STD = 1.5  # of the vision tower's position embeddings at the start; with transformers' 0.02 where things are is learned far later


@dataclass
class Batch:
    """Conversations of one task: model inputs, where the prompts end (B,), the fields' token ids, and the captions' tokens if any."""

    inputs: dict[str, Tensor]
    ends: Tensor
    truth: Tensor
    labels: Tensor | None


def build_vlm(config: VLMConfig, corpus: Sequence[str], structured: bool = True) -> ConditionEncoder:
    """An untrained tiny Qwen3-VL around a tokenizer trained on ``corpus``; its last tokens speak for the prompt where they learn fields."""
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
    if structured:
        setattr(settings, CONDITION_TOKENS, config.fields)
    model = Qwen3VLForConditionalGeneration(settings)
    nn.init.normal_(model.model.visual.pos_embed.weight, std=PLACE_STD)
    return ConditionEncoder(model, tokenizer, processor)


class VLMModule(StepModule):
    """Parallel prediction of structured fields, next-token prediction of captions."""

    def __init__(self, encoder: ConditionEncoder, corpus: Corpus, config: VLMConfig, seed: int) -> None:
        super().__init__(config.steps)
        self.encoder, self.corpus, self.config, self.seed = encoder, corpus, config, seed
        self.prefetch = True
        self.model = encoder.model.requires_grad_(True)
        self.fields = nn.Linear(encoder.width, FIELD_TOKENS * encoder.width, bias=False)

    def facts(self) -> dict[str, Any]:
        return {"seed": self.seed, "vlm": as_dict(self.config)}

    def batch(self, step: int) -> Batch:
        draw = rng.numpy_rng(self.seed, "vlm/batch", step)
        task = self.corpus.turn(step, self.config.steps)
        examples = self.corpus.draw(draw, task, self.config.batch_size)
        return batch_of(self.encoder, examples, self.config.fields)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        hidden = self.model.model(**batch.inputs, use_cache=False).last_hidden_state
        loss = hidden.new_zeros(())
        if bool((batch.truth != IGNORED).any()):
            loss = F.cross_entropy(self.field_logits(hidden, batch.ends).flatten(0, 2), batch.truth.flatten(), ignore_index=IGNORED)
            self.observe({"vlm/fields_loss": loss.detach()})
        if batch.labels is not None:
            logits = self.model.lm_head(hidden)
            caption = F.cross_entropy(logits[:, :-1].flatten(0, 1), batch.labels[:, 1:].flatten(), ignore_index=IGNORED)
            self.observe({"vlm/caption_loss": caption.detach()})
            loss = loss + self.config.caption_weight * caption
        return loss

    def field_logits(self, hidden: Tensor, ends: Tensor) -> Tensor:
        """(B, fields, FIELD_TOKENS, vocabulary) from the states of the last ``fields`` tokens of prompts that end at ``ends`` (B,)."""
        n = self.config.fields
        tail = hidden[torch.arange(len(hidden))[:, None], ends[:, None] - n + torch.arange(n)]
        return self.model.lm_head(self.fields(tail).unflatten(-1, (FIELD_TOKENS, -1)))

    def configure_optimizers(self) -> Any:
        settings = OptimizerConfig("muon", self.config.muon_lr, self.config.lr, self.config.weight_decay)
        return self.scheduled(self, settings, lambda name: "layers" in name or "blocks" in name)


def batch_of(encoder: ConditionEncoder, examples: Sequence[Example], fields: int) -> Batch:
    """Tensors of examples of one task; those with a caption are whole conversations."""
    captions = [example.caption for example in examples]
    inputs = encoder.batch([e.prompt for e in examples], [list(e.images) for e in examples], captions if any(captions) else None)
    ends, labels = inputs["attention_mask"].sum(1), None
    if any(captions):
        stops, columns = ends, torch.arange(inputs["input_ids"].shape[1])
        ends = stops - torch.tensor([len(ids) for ids in encoder.tokenizer([text + "<|im_end|>" for text in captions]).input_ids])
        answered = (columns >= ends[:, None]) & (columns < stops[:, None])
        labels = inputs["input_ids"].masked_fill(~answered, IGNORED)
    return Batch(inputs, ends, field_truth(encoder, [example.structured for example in examples], fields), labels)


def field_truth(encoder: ConditionEncoder, structured: Sequence[str], fields: int) -> Tensor:
    """(B, fields, FIELD_TOKENS): the token ids of the fields of structured captions, IGNORED where there are none."""
    truth = torch.full((len(structured), fields, FIELD_TOKENS), IGNORED)
    for i, caption in enumerate(structured):
        texts = re.split(r" [;,] ", caption)[:fields] if caption else []
        for k, ids in enumerate(encoder.tokenizer([" " + text for text in texts]).input_ids if texts else []):
            truth[i, k, : len(ids)] = torch.tensor(ids[:FIELD_TOKENS])
    return truth


@torch.no_grad()
def field_accuracy(module: VLMModule, examples: Sequence[Example]) -> float:
    """Share of examples whose fields are all right."""
    batch = batch_of(module.encoder, examples, module.config.fields)
    found = module.field_logits(module.model.model(**batch.inputs, use_cache=False).last_hidden_state, batch.ends).argmax(-1)
    return float(((found == batch.truth) | (batch.truth == IGNORED)).flatten(1).all(1).float().mean())


def train_vlm(
    config: VLMConfig, corpus: Corpus, out: Path, seed: int, reporter: Reporter, checkpoints: Path | None = None, engine: EngineConfig | None = None
) -> dict[str, float]:
    """Train the tiny Qwen3-VL and save it as a transformers folder; returns metrics on held-out examples."""
    torch.manual_seed(rng.key(seed, "vlm/init"))
    encoder = build_vlm(config, corpus.texts(), corpus.structured)
    module = VLMModule(encoder, corpus, config, seed)
    fit(module, "vlm", reporter, engine=engine, checkpoints=checkpoints)
    metrics = {f"vlm/{task}_fields": field_accuracy(module, examples) for task, examples in corpus.heldout().items()}
    save_vlm(encoder, out)
    return metrics


def save_vlm(encoder: ConditionEncoder, out: Path) -> None:
    """Write model, tokenizer and image processor as transformers does."""
    encoder.model.save_pretrained(out)
    encoder.tokenizer.save_pretrained(out)
    encoder.image_processor.save_pretrained(out)
