"""The tiny Qwen3-VL that the line trains where no pretrained one is given, and then freezes.

Three tasks in turn, all in the condition encoder's own conversation: text -> structured caption, image -> caption, and (image,
edit instruction) -> structured caption of the result. Besides the next token, the state at the end of the prompt predicts the
next ``ahead`` tokens at once (multi-token prediction, Gloeckle et al., 2024), so that what an image model needs to know stands
there before any token is generated. The prediction heads are dropped after training.
"""

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
from qi2.training.fit import StepModule, fit
from qi2.training.config import OptimizerConfig


def build_vlm(config: VLMConfig, corpus: Sequence[str]) -> ConditionEncoder:
    """An untrained tiny Qwen3-VL around a tokenizer trained on ``corpus``."""
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    tokenizer = train_tokenizer(corpus, config.vocabulary)
    pair = config.width // config.heads // 2
    sections = [pair - 2 * (pair // 3), pair // 3, pair // 3]
    ids = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("image_pad", "video_pad", "vision_start", "vision_end")}
    text = {
        "vocab_size": len(tokenizer), "hidden_size": config.width, "intermediate_size": 3 * config.width, "num_hidden_layers": config.layers,
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
    """Next-token and multi-token prediction of answers."""

    def __init__(self, encoder: ConditionEncoder, corpus: Corpus, config: VLMConfig, seed: int) -> None:
        super().__init__(config.steps)
        self.encoder, self.corpus, self.config, self.seed = encoder, corpus, config, seed
        self.model = encoder.model.requires_grad_(True)
        self.ahead = nn.Linear(encoder.width, config.ahead * encoder.width, bias=False)

    def batch(self, step: int) -> dict[str, Tensor]:
        draw = rng.numpy_rng(self.seed, "vlm/batch", step)
        examples = self.corpus.draw(draw, step, self.config.batch_size)
        return question_batch(self.encoder, examples)

    def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
        labels, last = batch.pop("labels"), batch.pop("last")
        output = self.model.model(**batch, use_cache=False)
        hidden = output.last_hidden_state
        logits = self.model.lm_head(hidden)
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
        ahead = F.cross_entropy(self.ahead_logits(hidden, last).flatten(0, 1), answers_after(labels, last, self.config.ahead).flatten(), ignore_index=-100)
        self.log_dict({"vlm/loss": loss, "vlm/ahead_loss": ahead})
        return loss + ahead

    def ahead_logits(self, hidden: Tensor, last: Tensor) -> Tensor:
        """(B, ahead, vocabulary) from the state at the end of each prompt."""
        state = hidden[torch.arange(len(hidden)), last]
        return self.model.lm_head(self.ahead(state).unflatten(-1, (self.config.ahead, -1)))

    def configure_optimizers(self) -> Any:
        settings = OptimizerConfig("muon", self.config.muon_lr, self.config.lr, self.config.weight_decay)
        return self.scheduled(self, settings, lambda name: "embed" not in name and "ahead" not in name)


def question_batch(encoder: ConditionEncoder, examples: Sequence[Example]) -> dict[str, Tensor]:
    """Inputs of whole conversations, ``labels`` on the answers only, and ``last``: the index of each prompt's last token."""
    prompts, images = [e.prompt for e in examples], [list(e.images) for e in examples]
    inputs = encoder.batch(prompts, images, [e.answer for e in examples])
    answers = encoder.tokenizer([e.answer + "<|im_end|>" for e in examples]).input_ids
    ends = inputs["attention_mask"].sum(1)
    last = ends - torch.tensor([len(a) for a in answers]) - 1
    columns = torch.arange(inputs["input_ids"].shape[1])
    answered = (columns > last[:, None]) & (columns < ends[:, None])
    return inputs | {"labels": inputs["input_ids"].masked_fill(~answered, -100), "last": last}


def answers_after(labels: Tensor, last: Tensor, n: int) -> Tensor:
    """(B, n): the first n answer tokens, -100 beyond their end."""
    padded = F.pad(labels, (0, n + 1), value=-100)
    return padded.gather(1, last[:, None] + 1 + torch.arange(n))


@torch.no_grad()
def ahead_accuracy(module: VLMModule, examples: Sequence[Example]) -> float:
    """Share of examples whose first ``ahead`` answer tokens are all right at the end of the prompt, before generation."""
    batch = question_batch(module.encoder, examples)
    labels, last = batch.pop("labels"), batch.pop("last")
    hidden = module.model.model(**batch, use_cache=False).last_hidden_state
    truth = answers_after(labels, last, module.config.ahead)
    right = (module.ahead_logits(hidden, last).argmax(-1) == truth) | (truth == -100)
    return float(right.all(1).float().mean())


def train_vlm(config: VLMConfig, corpus: Corpus, out: Path, seed: int, reporter: Reporter, checkpoints: Path | None = None) -> dict[str, float]:
    """Train the tiny Qwen3-VL and save it as a transformers folder; returns metrics on held-out examples."""
    torch.manual_seed(rng.key(seed, "vlm/init"))
    encoder = build_vlm(config, corpus.texts())
    module = VLMModule(encoder, corpus, config, seed)
    fit(module, "vlm", reporter, checkpoints=checkpoints)
    metrics = {f"vlm/{name}_exact": ahead_accuracy(module, examples) for name, examples in corpus.heldout().items()}
    save_vlm(encoder, out)
    return metrics


def save_vlm(encoder: ConditionEncoder, out: Path) -> None:
    """Write model, tokenizer and image processor as transformers does."""
    encoder.model.save_pretrained(out)
    encoder.tokenizer.save_pretrained(out)
    encoder.image_processor.save_pretrained(out)
