"""A model of ``runs/SCALE`` or of a bundle as the line's evaluation draws with it, so that both share pictures."""

from pathlib import Path

from qi2.config import load
from qi2.core.errors import QI2Error
from qi2.evaluation.models import Contender
from qi2.evaluation.painter import ModelPainter, Studio
from qi2.evaluation.store import Store
from qi2.models.config import SamplerConfig
from qi2.pipeline import LINE, STUDENT, find_champion, read_recipe


def open_painter(
    folder: Path | None, stage: str, store: Store, batch: int, device: str, dtype: str, lora: str, steps: int | None, guidance: float | None
) -> ModelPainter:
    """``stage``: the last of the line by default; its own sampler, of which ``steps`` and ``guidance`` replace parts."""
    folder = Path(folder) if folder else find_champion()
    recipe, name = read_recipe(folder), stage or next((name for name in LINE if (folder / name / "model.safetensors").exists()), "")
    if not recipe:
        raise QI2Error(f"{folder} has no recipe.yaml, and there is no conf/resolved/{folder.name}.yaml: how to sample it is unknown; go where it was trained")
    if not (folder / name / "model.safetensors").exists():
        raise QI2Error(f"{folder} holds no model {name}; choose runs/SCALE, runs/SCALE/champion, or what `qi2 convert` wrote")
    size = max(recipe.get("encode", {}).get("sizes", [256]))
    studio = Studio(folder / "vae", folder / "standins" / "vlm", store, size, batch, device=device)
    return ModelPainter(studio, _contender(load(SamplerConfig, [recipe.get("sampler", {})]), name, folder / name, steps, guidance), dtype, lora)


def _contender(sampler: SamplerConfig, name: str, folder: Path, steps: int | None, guidance: float | None) -> Contender:
    if name == STUDENT:
        return Contender(name, folder, sampler.few(steps))
    strengths = (sampler.guidance, sampler.edit_guidance) if guidance is None else (guidance, guidance)
    return Contender(name, folder, sampler.schedule(steps), *strengths, sampler.guidance_rescale, tuple(sampler.guidance_interval))
