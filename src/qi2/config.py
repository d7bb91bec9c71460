"""Configuration: YAML layers merged into dataclasses; an unknown key is an error that names the nearest valid one.

Only differences from the dataclass defaults stand in ``conf/``. Torch-free, so that resolving a config costs nothing.
"""

import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from qi2.core.errors import QI2Error

T = TypeVar("T")


def load(cls: type[T], layers: Sequence[Mapping[str, Any] | Path], overrides: Sequence[str] = ()) -> T:
    """Merge YAML files or mappings, then ``key.path=value`` overrides, into an instance of dataclass ``cls``.

    Raises QI2Error that names the file and the key (with the nearest valid key), or the value that has the wrong type.
    """
    merged: DictConfig = OmegaConf.structured(cls)
    for layer in layers:
        name = str(layer) if isinstance(layer, Path) else "the given mapping"
        merged = _merge(merged, _read(layer), name)
    for text in overrides:
        if "=" not in text:
            raise QI2Error(f"override {text!r} has no '='; write it as key.path=value")
        merged = _merge(merged, OmegaConf.from_dotlist([text]), f"override {text!r}")
    return OmegaConf.to_object(merged)  # type: ignore[return-value]


def as_dict(config: Any) -> dict[str, Any]:
    """A plain nested dictionary of a config dataclass."""
    return OmegaConf.to_container(OmegaConf.structured(config), resolve=True, enum_to_str=True)  # type: ignore[return-value]


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` to ``{"a.b": 1}``; lists become JSON text."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = json.dumps(value) if isinstance(value, list) else value
    return flat


def _read(layer: Mapping[str, Any] | Path) -> DictConfig:
    if isinstance(layer, Path):
        if not layer.exists():
            raise QI2Error(f"no configuration file {layer}; choose one of {sorted(p.stem for p in layer.parent.glob('*.yaml'))}")
        layer = OmegaConf.to_container(OmegaConf.load(layer))  # type: ignore[assignment]
    values: Mapping[str, Any] = layer or {}  # type: ignore[assignment]
    return OmegaConf.create({key: value for key, value in values.items() if value is not None})


def _merge(base: DictConfig, layer: DictConfig, name: str) -> DictConfig:
    _check_keys(base, OmegaConf.to_container(layer), name, "")
    try:
        return OmegaConf.merge(base, layer)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        raise QI2Error(f"{name}: {error.full_key or ''} has a wrong value: {str(error).splitlines()[0]}") from error


def _check_keys(base: Any, layer: Any, name: str, path: str) -> None:
    if not isinstance(base, DictConfig) or not isinstance(layer, dict) or OmegaConf.get_type(base) is dict:
        return
    for key, value in layer.items():
        if key not in base:
            near = difflib.get_close_matches(str(key), [str(k) for k in base], n=1, cutoff=0.0)
            raise QI2Error(f"{name}: unknown key {path}{key}; did you mean {path}{near[0] if near else '?'}?")
        _check_keys(base._get_node(key), value, name, f"{path}{key}.")
