"""A model as an evaluation draws with it, and the hashes of all that decides its pictures."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from PIL import Image

import qi2.models
from qi2.core.errors import QI2Error
from qi2.core.pretrained import model_source, processor_source
from qi2.evaluation import generate
from qi2.evaluation.drawing import Job, chunks
from qi2.evaluation.generate import Drawing, EncodedSuite, batches, encode_suite
from qi2.evaluation.models import Contender
from qi2.evaluation.store import Store, key_of
from qi2.models.condition import ConditionEncoder
from qi2.models.lora import apply_adapter, merge, read_adapter
from qi2.models.mmdit import MMDiT
from qi2.models.storage import device_of, dtype_of
from qi2.models.vae import VAE

FILES = (".safetensors", ".json", ".txt", ".bin")
LIBRARIES = ("torch", "transformers")


class Studio:
    """What all models of one line share: VAE, condition encoder, and the prompts that it has read; all loaded when first used.

    ``batch``: pictures that are drawn together and then kept; ``workers``: processes that draw on a CPU.
    """

    def __init__(self, vae: Path, encoder: Path, store: Store, size: int, batch: int, workers: int = 0, device: str = "cpu") -> None:
        if workers and device_of(device).type != "cpu":
            raise QI2Error(f"evaluate.workers={workers} processes draw on a CPU only; set it to 0 with evaluate.device={device}")
        self.folders, self.store, self.size, self.batch, self.workers, self.device = (vae, encoder), store, size, batch, workers, device
        self._read: dict[str, EncodedSuite] = {}

    @cached_property
    def vae(self) -> VAE:
        """The line's VAE."""
        return VAE.load(self.folders[0]).to(device_of(self.device))

    @cached_property
    def encoder(self) -> ConditionEncoder:
        """The line's condition encoder."""
        return ConditionEncoder.load(self.folders[1], self.device)

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What decides pictures of every model: networks, code, libraries and the kind of device."""
        return {
            "vae": model_hash(self.folders[0], self.store),
            "encoder": encoder_hash(self.folders[1], self.store),
            "device": device_of(self.device).type,
            "code": code_hash(),
            "libraries": [f"{name} {version(name)}" for name in LIBRARIES],
        }

    def encode(self, jobs: Sequence[Job], size: int) -> EncodedSuite:
        """Conditions of all jobs. They are read batch by batch, and each batch once for all models."""
        parts = [self._encode(part, size) for part in chunks(jobs, self.batch)]
        prompts, references, seeds = ([one for part in parts for one in getattr(part, name)] for name in ("prompts", "references", "noise_seeds"))
        return EncodedSuite(prompts, references, seeds, parts[0].empty, size)

    def _encode(self, jobs: Sequence[Job], size: int) -> EncodedSuite:
        name = key_of({"jobs": [[job.prompt, job.facts["references"], job.seed] for job in jobs], "size": size})
        if name not in self._read:
            prompts, references = [job.prompt for job in jobs], [job.references() for job in jobs]
            self._read[name] = encode_suite(self.encoder, self.vae, prompts, references, [job.seed for job in jobs], size)
        return self._read[name]


class ModelPainter:
    """A contender of a studio; its weights are loaded when something has to be drawn. ``lora``: an adapter to merge; ``dtype``: as its file by default."""

    def __init__(self, studio: Studio, contender: Contender, dtype: str = "", lora: str = "") -> None:
        self.studio, self.contender, self.dtype, self.lora = studio, contender, dtype, lora
        self.name, self.size, self.batch = contender.name, studio.size, studio.batch
        self.facts: Mapping[str, Any] = {
            **studio.facts,
            "model": model_hash(contender.folder, studio.store),
            "lora": studio.store.file_hash(Path(lora)) if lora else "",
            "dtype": dtype,
            "schedule": asdict(contender.schedule),
            "guidance": [contender.guidance, contender.edit_guidance],
            "rescale": [contender.rescale, *contender.interval],
        }

    @cached_property
    def model(self) -> MMDiT:
        """The network, on the studio's device."""
        model = MMDiT.load(self.contender.folder)
        if self.lora:
            model = merge(apply_adapter(model, read_adapter(Path(self.lora), model.config.layers)))
        return model.to(device_of(self.studio.device), dtype_of(self.dtype) if self.dtype else None).requires_grad_(False)

    def draw(self, jobs: Sequence[Job]) -> Iterator[list[Image.Image]]:
        """The pictures, a batch at a time; without the generator of torch being moved, as loading a network would."""
        with torch.random.fork_rng(devices=[]):
            drawing = Drawing(self.model, self.contender, self.studio.encode(jobs, int(jobs[0].facts["size"])), self.studio.vae, self.batch)
        return batches(drawing, self.studio.workers)


def model_hash(folder: Path, store: Store) -> str:
    """The hash of a model folder's weights and settings, whatever the folder is called."""
    files = [path for path in sorted(folder.iterdir()) if path.suffix == ".safetensors" or path.name == "config.json"]
    return hashlib.sha256("\n".join(f"{path.name} {store.file_hash(path)}" for path in files).encode()).hexdigest()


def encoder_hash(folder: Path, store: Store) -> str:
    """Of the condition encoder with its tokenizer; of a hub id its name, since what it holds is not here to be hashed."""
    found = []
    for source in dict.fromkeys((model_source(folder), processor_source(folder))):
        files = [path for path in sorted(Path(source).iterdir()) if path.suffix in FILES and path.name != "manifest.json"] if Path(source).is_dir() else []
        found += [f"{path.name} {store.file_hash(path)}" for path in files] or [source]
    return hashlib.sha256("\n".join(found).encode()).hexdigest()


def code_hash() -> str:
    """Of the code that draws: the networks, the sampler and this package's drawing."""
    networks = sorted(Path(qi2.models.__path__[0]).rglob("*.py"))
    digest = hashlib.sha256()
    for path in chain(networks, (Path(str(generate.__file__)),)):
        digest.update(path.read_bytes())
    return digest.hexdigest()
