"""Where a pretrained model is: in a folder, at a hub id, or where a folder's pointer file says. Torch-free.

The pointer ``pretrained.json`` stands in a stand-in's folder instead of weights where the config names a pretrained model. It holds
{"path": folder or hub id}, and "processor" where tokenizer and image processor are in another folder.
"""

import json
from pathlib import Path

from qi2.core.errors import QI2Error

POINTER = "pretrained.json"
TOKENIZER = ("tokenizer.json", "vocab.json", "tokenizer_config.json")
PROCESSOR = "processor"  # the folder beside text_encoder/ in which a pipeline of diffusers keeps them


def model_source(folder: Path | str) -> str:
    """The folder itself, or the path or hub id that its pointer file names."""
    pointer = Path(folder) / POINTER
    return str(json.loads(pointer.read_text())["path"]) if pointer.exists() else str(folder)


def processor_source(folder: Path | str) -> str:
    """Where the model's tokenizer and image processor are: in the pointer's ``processor``, with the model, or in ``processor/`` beside it.

    Raises QI2Error for a folder without any: transformers would make an empty tokenizer of it and say nothing.
    """
    pointer, source = Path(folder) / POINTER, model_source(folder)
    named = json.loads(pointer.read_text()).get(PROCESSOR, source) if pointer.exists() else source
    if not Path(named).is_dir() or _has_tokenizer(Path(named)):
        return str(named)
    beside = Path(named).resolve().parent / PROCESSOR
    if _has_tokenizer(beside):
        return str(beside)
    raise QI2Error(f"{named} has no tokenizer, nor has {beside}; copy the folder {PROCESSOR} of the pipeline, or of a Qwen3-VL its {TOKENIZER[0]}")


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / name).exists() for name in TOKENIZER)
