"""The small CLIPModel that the line trains where no pretrained one is given; curation loads it like a real one.

It learns from the raw training rows as they are, wrong captions included, exactly as a real CLIP did. Published as a
transformers folder: weights, image processor, and a tokenizer that ends every text with the pooled end token.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from qi2.core import rng
from qi2.core.pretrained import processor_source
from qi2.core.reporter import Reporter
from qi2.standins.filters_config import ClipConfig
from qi2.standins.pixels import StandinsRecipe, read_pixels
from qi2.training.config import OptimizerConfig
from qi2.training.fit import fit
from qi2.training.step_module import StepModule

if TYPE_CHECKING:
    import pandas as pd


def train_clip(cfg: StandinsRecipe, rows: "pd.DataFrame", raw: Path, tokenizer_folder: Path, out: Path, reporter: Reporter) -> None:
    """Train on the T2I training rows of the sidecar table and write the model's folder ``out``.

    ``tokenizer_folder`` is the condition encoder's. Raises QI2Error when there are too few readable captioned images.
    """
    config = cfg.standins.clip
    usable = rows[(rows["split"] == "train") & (rows["task"] == "t2i") & (rows["captions"].map(len) > 0)]
    pixels, chosen = read_pixels(usable, raw, config.images, image_processor(config))
    tokenizer = clip_tokenizer(processor_source(tokenizer_folder), config.max_tokens)
    model = fit_clip(config, pixels, [list(texts) for texts in chosen["captions"]], tokenizer, cfg.seed, reporter)
    save_clip(model, tokenizer, config, out)


def clip_tokenizer(folder: str, length: int) -> Any:
    """The tokenizer of the condition encoder in ``folder``, with an end token after every text, cut to ``length`` tokens."""
    from tokenizers import Tokenizer, processors
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    base = AutoTokenizer.from_pretrained(folder)
    backend = Tokenizer.from_str(base.backend_tokenizer.to_str())
    backend.post_processor = processors.TemplateProcessing(single=f"$A {base.eos_token}", special_tokens=[(base.eos_token, base.eos_token_id)])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend, eos_token=base.eos_token, pad_token=base.pad_token, model_max_length=length, padding_side="right"
    )


def build_clip(config: ClipConfig, tokenizer: Any) -> Any:
    """An untrained CLIPModel."""
    from transformers import CLIPConfig, CLIPModel

    shared = {
        "hidden_size": config.width,
        "intermediate_size": 3 * config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
    }
    tokens = {"vocab_size": len(tokenizer), "max_position_embeddings": config.max_tokens}
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    vision = {"image_size": config.image_size, "patch_size": config.patch}
    settings = CLIPConfig(text_config=shared | tokens | ends, vision_config=shared | vision, projection_dim=config.projection)
    return CLIPModel(settings)


def image_processor(config: ClipConfig) -> Any:
    """CLIP's own preprocessing: shorter side to the model's size, centre crop, normalise."""
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    side = config.image_size
    return CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})


class ClipModule(StepModule):
    """Symmetric contrastive loss over images and one random caption each."""

    def __init__(self, model: Any, tokenizer: Any, pixels: Tensor, captions: list[list[str]], config: ClipConfig, seed: int) -> None:
        super().__init__(config.steps)
        self.model, self.tokenizer, self.captions, self.config, self.seed = model, tokenizer, captions, config, seed
        self.pixels = pixels
        processor = image_processor(config)
        self.mean = torch.tensor(processor.image_mean).view(1, 3, 1, 1)
        self.std = torch.tensor(processor.image_std).view(1, 3, 1, 1)

    def batch(self, step: int) -> dict[str, Tensor]:
        draw = rng.numpy_rng(self.seed, "clip/batch", step)
        rows = draw.permutation(len(self.captions))[: self.config.batch_size]
        texts = [self.captions[row][int(draw.integers(len(self.captions[row])))] for row in rows]
        tokens = self.tokenizer(texts, padding=True, truncation=True, max_length=self.config.max_tokens, return_tensors="pt")
        pixels = (self.pixels[torch.from_numpy(rows)].float() / 255 - self.mean) / self.std
        return {"pixel_values": pixels, "input_ids": tokens["input_ids"], "attention_mask": tokens["attention_mask"]}

    def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
        output = self.model(**batch, return_loss=True)
        own = torch.arange(len(output.logits_per_image), device=output.logits_per_image.device)
        found = (output.logits_per_image.argmax(-1) == own).float().mean()
        self.observe({"clip/loss": output.loss, "clip/found": found})
        return output.loss

    def configure_optimizers(self) -> Any:
        settings = OptimizerConfig(name="muon", lr=self.config.lr, adam_lr=self.config.adam_lr, warmup=10)
        return self.scheduled(self.model, settings, hidden=lambda name: "embedding" not in name)


def fit_clip(config: ClipConfig, pixels: Tensor, captions: list[list[str]], tokenizer: Any, seed: int, reporter: Reporter) -> Any:
    """Train on uint8 pixels (N, 3, S, S) and their captions; returns the CLIPModel."""
    torch.manual_seed(rng.key(seed, "clip/init"))
    model = build_clip(config, tokenizer)
    fit(ClipModule(model, tokenizer, pixels, captions, config, seed), "clip", reporter)
    return model.eval()


def save_clip(model: Any, tokenizer: Any, config: ClipConfig, out: Path) -> None:
    """Write a folder that AutoTokenizer, AutoImageProcessor and CLIPModel load."""
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    image_processor(config).save_pretrained(out)
