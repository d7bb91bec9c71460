"""Between our folders and those of diffusers, in both directions and without loss: ``qi2 convert SOURCE OUT``.

A folder of diffusers (QwenImage21Pipeline) holds model_index.json, transformer/, vae/, scheduler/, text_encoder/ and processor/. Ours is a bundle as
``qi2 generate --model`` reads it: MODEL/, vae/, standins/vlm/ (which points to the condition encoder), recipe.yaml, and diffusers/ with what our
format has no place for. So a team starts from the open weights and ships back to the tools that it uses.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import yaml

from qi2.config import as_dict, load
from qi2.core.errors import QI2Error
from qi2.core.pretrained import POINTER, model_source, processor_source
from qi2.core.publish import MANIFEST, publish
from qi2.models.config import SamplerConfig
from qi2.models.mmdit_diffusers import VERSION, load_mmdit, mmdit_from_diffusers, mmdit_to_diffusers
from qi2.models.vae_diffusers import load_vae, vae_from_diffusers, vae_to_diffusers
from qi2.pipeline import LINE, read_recipe

INDEX, SCHEDULER, KEPT = "model_index.json", "scheduler_config.json", "diffusers"
PIPELINE = "QwenImage21Pipeline"
PARTS = {
    "processor": ["transformers", "Qwen3VLProcessor"],
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "text_encoder": ["transformers", "Qwen3VLForConditionalGeneration"],
    "transformer": ["diffusers", "QwenImage21Transformer2DModel"],
    "vae": ["diffusers", "AutoencoderKLQwenImage21"],
}
SCHEDULE = {
    "base_shift": "base_shift",
    "max_shift": "max_shift",
    "base_tokens": "base_image_seq_len",
    "max_tokens": "max_image_seq_len",
    "shift": "shift",
    "dynamic_shift": "use_dynamic_shifting",
    "terminal": "shift_terminal",
}
"""Our sampler's fields and their scheduler's."""
FIXED = {
    "time_shift_type": "exponential", "stochastic_sampling": False, "invert_sigmas": False,
    "use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False,
}  # fmt: skip
"""What our sampler does not vary."""
TRAIN_STEPS = 1000  # of their scheduler; times here are 0 to 1


def convert(source: Path, out: Path, stage: str | None = None, link: bool = False) -> str:
    """Convert a folder of either kind to the other; returns what was written. ``link``: the condition encoder is linked, not copied.

    Raises QI2Error where the folder is neither, where a part is missing, or for what the other side cannot express.
    """
    source, out = Path(source), Path(out)
    if out.exists() and out.resolve() == source.resolve():
        raise QI2Error(f"{out} is the source; name another folder to write")
    if out.resolve() in source.resolve().parents:
        raise QI2Error(f"{out} holds the source and would be replaced with it; name another folder to write")
    if out.exists() and not (out.is_dir() and ((out / MANIFEST).exists() or not any(out.iterdir()))):
        raise QI2Error(f"{out} exists, and not as something that qi2 wrote; it would be replaced, so name another folder to write")
    if (source / INDEX).exists():
        if stage or link:
            raise QI2Error(f"{source} is a pipeline of diffusers; --stage and --link are for the other direction")
        return from_diffusers(source, out)
    return to_diffusers(source, out, stage, link)


def from_diffusers(source: Path, out: Path) -> str:
    """A bundle of the pipeline folder ``source``; its condition encoder stays where it is and is pointed to."""
    index = json.loads((source / INDEX).read_text())
    if index.get("_class_name") != PIPELINE:
        raise QI2Error(f"{source / INDEX} is of a {index.get('_class_name')}; only {PIPELINE} can be converted")
    if missing := [part for part in PARTS if not (source / part).is_dir()]:
        raise QI2Error(f"{source} lacks the folder {missing[0]}; copy the whole pipeline")
    scheduler = json.loads((source / "scheduler" / SCHEDULER).read_text())
    sampler = sampler_of(scheduler, index)
    with publish(out) as staging:
        mmdit_from_diffusers(source / "transformer").save(staging / LINE[-1])
        vae_from_diffusers(source / "vae").save(staging / "vae")
        pointer = {"path": str((source / "text_encoder").resolve()), "processor": str((source / "processor").resolve())}
        _write(staging / "standins" / "vlm" / POINTER, pointer)
        _write(staging / KEPT / INDEX, index)
        _write(staging / KEPT / SCHEDULER, scheduler)
        (staging / "recipe.yaml").write_text(yaml.safe_dump({"sampler": as_dict(sampler), "encode": {"sizes": [1024]}}))
    return f"{out}: {LINE[-1]}, vae, recipe.yaml; the condition encoder stays in {source}. Try: qi2 generate --model {out} PROMPT"


def to_diffusers(source: Path, out: Path, stage: str | None = None, link: bool = False) -> str:
    """A pipeline folder of a run or bundle: the model of ``stage``, the last of the line by default."""
    name = stage or next((name for name in LINE if (source / name).is_dir()), None)
    if name is None or not (source / name).is_dir():
        raise QI2Error(f"{source} holds no {name or 'model'} and no {INDEX}; give runs/SCALE, a bundle, or a pipeline folder of diffusers")
    sampler = load(SamplerConfig, [read_recipe(source).get("sampler", {})])
    encoder, processor = _condition_encoder(source / "standins" / "vlm")
    with publish(out) as staging:
        mmdit_to_diffusers(load_mmdit(source / name), staging / "transformer")
        vae_to_diffusers(load_vae(source / "vae"), staging / "vae")
        kept = source / KEPT / SCHEDULER
        _write(staging / "scheduler" / SCHEDULER, scheduler_of(sampler, json.loads(kept.read_text()) if kept.exists() else {}))
        kept = source / KEPT / INDEX
        index = json.loads(kept.read_text()) if kept.exists() else {"_class_name": PIPELINE, "_diffusers_version": VERSION, **PARTS}
        _write(staging / INDEX, index | {"sample_sigmas": sampler.sigmas or None} if "sample_sigmas" in index or sampler.sigmas else index)
        for part, folder in (("text_encoder", encoder), ("processor", processor)):
            _place(folder, staging / part, link)
    return f"{out}: {name} as {PIPELINE}" + ("; text_encoder and processor are links" if link else "")


def sampler_of(scheduler: dict[str, Any], index: dict[str, Any]) -> SamplerConfig:
    """Our sampler of their scheduler_config.json and model_index.json; the published model is sampled without guidance.

    Raises QI2Error that names a setting which our sampler does not have.
    """
    for name, value in FIXED.items():
        if scheduler.get(name, value) != value:
            raise QI2Error(f"{SCHEDULER} has {name}={scheduler[name]}; the sampler here only knows {value}")
    values = {ours: scheduler[theirs] for ours, theirs in SCHEDULE.items() if scheduler.get(theirs) is not None}
    sigmas = index.get("sample_sigmas") or []
    return load(SamplerConfig, [values | {"guidance": 1.0, "edit_guidance": 1.0, "sigmas": sigmas} | ({"steps": len(sigmas)} if sigmas else {})])


def scheduler_of(sampler: SamplerConfig, kept: dict[str, Any]) -> dict[str, Any]:
    """Their scheduler_config.json: the one that the model came with where it says the same, else a new one."""
    wanted: dict[str, Any] = {theirs: getattr(sampler, ours) for ours, theirs in SCHEDULE.items()}
    wanted["shift_terminal"] = sampler.terminal or None
    if kept and all(kept.get(name) == value for name, value in wanted.items()):
        return kept
    head = {"_class_name": PARTS["scheduler"][1], "_diffusers_version": VERSION, "num_train_timesteps": TRAIN_STEPS}
    return head | kept | FIXED | wanted


def _condition_encoder(folder: Path) -> tuple[Path, Path]:
    """The folders of the Qwen3-VL and of its tokenizer and image processor."""
    if not folder.is_dir():
        raise QI2Error(f"no condition encoder at {folder}; give a run or bundle that has one")
    found = [Path(model_source(folder)), Path(processor_source(folder))]
    if missing := [path for path in found if not path.is_dir()]:
        raise QI2Error(f"{folder / POINTER} names {missing[0]}, which is no folder here; download it and name the folder there")
    return found[0], found[1]


def _place(source: Path, target: Path, link: bool) -> None:
    if link:
        os.symlink(source.resolve(), target)
    else:
        shutil.copytree(source, target, symlinks=False)


def _write(path: Path, values: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=2) + "\n")
