"""Stage `config`: resolves a scale's configuration into ``conf/resolved/SCALE.yaml``, whose keys the other stages depend on.

Layers: dataclass defaults, ``conf/base.yaml``, ``conf/scale/SCALE.yaml``, then ``conf/local/SCALE.yaml`` (the overrides of the last run).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from qi2.config import as_dict, load
from qi2.core.errors import QI2Error
from qi2.core.publish import write_file
from qi2.data.sources import fingerprint
from qi2.recipe import Recipe, flywheel_layer, scale_layers
from tasks import settings

FINGERPRINTS = ("source_files", "pretrained_files", "weights_files", "known_files", "accepted_files")
OPEN_TABLES = ("rlhf.rewards", "rlhf.prompts.kinds", "rlhf.prompts.edit_kinds")  # which a round replaces as a whole
PHASES = ("pretrain", "continual", "sft")


def resolved_path(scale: str) -> Path:
    """Where the resolved configuration of a scale stands."""
    return settings.ROOT / "conf" / "resolved" / f"{scale}.yaml"


def write_overrides(scale: str, overrides: Mapping[str, Any] | None) -> None:
    """Make ``overrides`` (nested, or with dotted keys) the scale's local layer; none clears it.

    Raises QI2Error for an unknown key or a value that does not fit, and then leaves the layer as it was.
    """
    values, path = nested(overrides or {}), _local(scale)
    load(Recipe, [*_layers(scale), values])
    path.parent.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(values, sort_keys=False) if values else ""
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def add_round(scale: str, overrides: Mapping[str, Any]) -> None:
    """Add a round's changes (dotted keys) to the scale's layer of the flywheel. Raises QI2Error where they do not fit, and then leaves it as it was."""
    path = flywheel_layer(settings.ROOT / "conf", scale)
    before = yaml.safe_load(path.read_text()) or {} if path.exists() else {}
    values = nested({**flatten_keys(before), **overrides})
    load(Recipe, [*_layers(scale), values])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, yaml.safe_dump(values, sort_keys=False).encode())


def flatten_keys(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"rlhf": {"rewards": {...}}}`` to ``{"rlhf.rewards": {...}}`` for tables whose keys are the user's; all others to their last key."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        open_table = isinstance(value, Mapping) and f"{prefix}{name}" in OPEN_TABLES
        flat |= flatten_keys(value, f"{prefix}{name}.") if isinstance(value, Mapping) and not open_table else {f"{prefix}{name}": value}
    return flat


def before_rounds(scale: str) -> Recipe:
    """The scale as it is without any change of the flywheel."""
    rounds = flywheel_layer(settings.ROOT / "conf", scale)
    local = [_local(scale)] if _local(scale).exists() else []
    return load(Recipe, [*(path for path in _layers(scale) if path != rounds), *local])


def local_overrides(scale: str) -> dict[str, Any]:
    """The overrides of the last run, for a run that goes on with them."""
    path = _local(scale)
    return (yaml.safe_load(path.read_text()) or {}) if path.exists() else {}


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """``{"sft.steps": 9}`` to ``{"sft": {"steps": 9}}``; raises QI2Error when a key is both a value and a section."""
    result: dict[str, Any] = {}
    for key, value in flat.items():
        *sections, last = str(key).split(".")
        node = result
        for section in sections:
            node = node.setdefault(section, {})
            if not isinstance(node, dict):
                raise QI2Error(f"override {key}: {section} has a value and cannot have keys of its own")
        child = nested(value) if isinstance(value, Mapping) else value
        node[last] = {**node[last], **child} if isinstance(child, dict) and isinstance(node.get(last), dict) else child
    return result


def resolve(scale: str) -> dict[str, Any]:
    """The whole configuration as nested dictionaries, plus fingerprints of what it names outside the project."""
    local = [_local(scale)] if _local(scale).exists() else []
    values = as_dict(load(Recipe, [*_layers(scale), *local]))
    source = values["data"]["source"]
    pretrained = {name: part["path"] for name, part in values["standins"].items() if isinstance(part, dict) and part.get("path")}
    marks = {name: fingerprint(path) for name, path in pretrained.items() if Path(path).exists()}
    known = {name: fingerprint(name) for name in [*values["curate"]["known"], *values["curate"]["captions"]] if Path(name).exists()}
    files = {"source_files": fingerprint(source) or None, "pretrained_files": marks, "weights_files": _weights(values), "known_files": known}
    accepted = values["accepted"]["path"]
    return values | files | {"accepted_files": fingerprint(accepted) if accepted and Path(accepted).exists() else None}


def _weights(values: Mapping[str, Any]) -> dict[str, str]:
    """Fingerprints of the weights that training starts from or uses as they are, by the key that names them."""
    named = {"vae.path": values["vae"]["path"], "enhancer.model.path": values["enhancer"]["model"]["path"]}
    named |= {f"enhancer.triplets.{name}": path for name in ("wordings", "examples") for path in values["enhancer"]["triplets"][name]}
    for phase in PHASES:
        named |= {f"{phase}.start": values[phase]["start"], f"{phase}.lora.path": values[phase]["lora"]["path"]}
    return {key: fingerprint(path) for key, path in named.items() if path and Path(path).exists()}


def edited(scale: str) -> set[str]:
    """The sections that differ from the configuration that was resolved last; all of them when there is none."""
    path = resolved_path(scale)
    before = yaml.safe_load(path.read_text()) if path.exists() else {}
    now = yaml.safe_load(yaml.safe_dump(resolve(scale)))
    return {name for name, value in now.items() if name not in before or before[name] != value}


def _local(scale: str) -> Path:
    return settings.ROOT / "conf" / "local" / f"{scale}.yaml"


def _layers(scale: str) -> list[Path]:
    return scale_layers(settings.ROOT / "conf", scale)


def write(scale: str) -> dict[str, Any]:
    """Resolve and write; the file is replaced only when its content differs."""
    values, path = resolve(scale), resolved_path(scale)
    text = yaml.safe_dump(values, sort_keys=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
    return values


def read(scale: str) -> Recipe:
    """The recipe that ``conf/resolved/SCALE.yaml`` holds."""
    path = resolved_path(scale)
    if not path.exists():
        write(scale)
    return recipe_of(yaml.safe_load(path.read_text()))


def recipe_of(values: dict[str, Any]) -> Recipe:
    """The recipe of a resolved configuration, whose fingerprints are not part of it."""
    return load(Recipe, [{name: value for name, value in values.items() if name not in FINGERPRINTS}])
