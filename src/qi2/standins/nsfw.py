"""The small image classifier that stands in for a real NSFW model; curation loads it like a real one.

Its unsafe class is a picture with hazard stripes across, which the raw data contains on purpose (kind ``defect_unsafe``).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from qi2.core import rng
from qi2.core.reporter import Reporter
from qi2.data.world.defects import hazard_image
from qi2.models.pixels import to_bytes, to_images, to_unit
from qi2.standins.filters_config import NSFWConfig
from qi2.standins.pixels import StandinsRecipe, read_pixels, spread_by_kind
from qi2.training.config import OptimizerConfig
from qi2.training.fit import fit
from qi2.training.step_module import StepModule

if TYPE_CHECKING:
    import pandas as pd

LABEL = "nsfw"
UNSAFE_KIND = "defect_unsafe"
UNSAFE_SHARE = 0.25  # of every batch


def train_nsfw(cfg: StandinsRecipe, rows: "pd.DataFrame", raw: Path, out: Path, reporter: Reporter) -> None:
    """Train on the training rows of the sidecar table and on striped versions of them; write the model's folder ``out``.

    The planted unsafe rows are left out, so that they measure the classifier; a user's own rows all count as safe.
    """
    config = cfg.standins.nsfw
    usable = spread_by_kind(rows[(rows["split"] == "train") & (rows["kind"] != UNSAFE_KIND)], config.images)
    safe, _ = read_pixels(usable, raw, config.images, image_processor(config))
    save_nsfw(fit_nsfw(config, safe, striped(safe, cfg.seed), cfg.seed, reporter), config, out)


def striped(safe: Tensor, seed: int) -> Tensor:
    """A third of the pictures (uint8, (N, 3, S, S)) with hazard stripes across."""
    pictures = to_images(safe[::3])
    return to_bytes([hazard_image(rng.numpy_rng(seed, "nsfw/stripes", index), safe.shape[-1], picture) for index, picture in enumerate(pictures)])


def build_nsfw(config: NSFWConfig) -> Any:
    """An untrained ViTForImageClassification with the classes ``normal`` and ``nsfw``."""
    from transformers import ViTConfig, ViTForImageClassification

    settings = ViTConfig(
        image_size=config.image_size,
        patch_size=config.patch,
        hidden_size=config.width,
        intermediate_size=3 * config.width,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        id2label={0: "normal", 1: LABEL},
        label2id={"normal": 0, LABEL: 1},
    )
    return ViTForImageClassification(settings)


def image_processor(config: NSFWConfig) -> Any:
    """ViT's own preprocessing: to a square of the model's size, values to -1..1."""
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    return ViTImageProcessorPil(size={"height": config.image_size, "width": config.image_size})


class NSFWModule(StepModule):
    """Cross-entropy on batches with a fixed share of unsafe pictures."""

    def __init__(self, model: Any, safe: Tensor, unsafe: Tensor, config: NSFWConfig, seed: int) -> None:
        super().__init__(config.steps)
        self.model, self.classes, self.config, self.seed = model, (safe, unsafe), config, seed

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        draw = rng.numpy_rng(self.seed, "nsfw/batch", step)
        bad = int(UNSAFE_SHARE * self.config.batch_size)
        counts = (self.config.batch_size - bad, bad)
        parts = [pixels[torch.from_numpy(draw.integers(len(pixels), size=n))] for pixels, n in zip(self.classes, counts, strict=True)]
        return to_unit(torch.cat(parts)), torch.tensor([0] * counts[0] + [1] * counts[1])

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        pixels, labels = batch
        loss = F.cross_entropy(self.model(pixel_values=pixels).logits, labels)
        self.observe({"nsfw/loss": loss})
        return loss

    def configure_optimizers(self) -> Any:
        settings = OptimizerConfig(name="adam", lr=self.config.lr, warmup=5)
        return self.scheduled(self.model, settings)


def fit_nsfw(config: NSFWConfig, safe: Tensor, unsafe: Tensor, seed: int, reporter: Reporter) -> Any:
    """Train on uint8 pixels (N, 3, S, S) of both classes; returns the classifier."""
    torch.manual_seed(rng.key(seed, "nsfw/init"))
    model = build_nsfw(config)
    fit(NSFWModule(model, safe, unsafe, config, seed), "nsfw", reporter)
    return model.eval()


def save_nsfw(model: Any, config: NSFWConfig, out: Path) -> None:
    """Write a folder that AutoImageProcessor and AutoModelForImageClassification load."""
    model.save_pretrained(out)
    image_processor(config).save_pretrained(out)
