"""qi2 vae evaluate: the same figures for one VAE in either folder, on any source, and the bundled sets are named as what they are."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from qi2.cli import main
from qi2.config import load
from qi2.models.vae import VAE
from qi2.models.vae_diffusers import vae_to_diffusers
from qi2.recipe import Recipe

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def vae(tmp_path: Path) -> VAE:
    """A small one of the published layout, in the folders ``ours`` and ``theirs``."""
    architecture = load(Recipe, [ROOT / "conf" / "scale" / "report.yaml"], ["vae.model.encoder_base=4", "vae.model.decoder_base=4"]).vae.model
    architecture.image_channels = 4
    torch.manual_seed(0)
    vae = VAE(architecture)
    vae.save(tmp_path / "ours")
    vae_to_diffusers(vae, tmp_path / "theirs")
    return vae


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Five images and a broken file."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(5):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (40 + 8 * i, 70, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def test_both_kinds_of_folder_give_the_same_figures(vae: VAE, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = {}
    for name in ("ours", "theirs"):
        out = tmp_path / f"out_{name}"
        assert main(["vae", "evaluate", str(tmp_path / name), "--general", str(pictures), "--text", str(pictures), "--size", "32", "--out", str(out)]) == 0
        found[name] = json.loads((out / "metrics.json").read_text())
        assert {"general.png", "text.png"} <= {path.name for path in out.iterdir()}
    assert found["ours"] | {"vae": ""} == found["theirs"] | {"vae": ""}
    figures = found["ours"]["general"]
    assert figures["psnr"]["n"] == 5 and figures["psnr"]["low"] <= figures["psnr"]["value"] <= figures["psnr"]["high"]
    assert found["ours"]["encoder_parameters"] == sum(p.numel() for part in (vae.encoder, vae.quant_conv) for p in part.parameters())
    text = capsys.readouterr().out
    assert "f16c64" in text and f"{figures['psnr']['value']:.2f}" in text and str(pictures) in text


def test_bundled_sets_are_named_as_stand_ins(vae: VAE, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vae", "evaluate", str(tmp_path / "ours"), "--size", "64", "--limit", "3", "--out", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert "3 images, held-out photographs of scikit-image (stand-in" in text and "3 images, synthetic pages of qi2 (stand-in" in text


def test_what_cannot_be_measured_is_said(vae: VAE, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vae", "evaluate", str(tmp_path / "ours"), "--size", "60"]) == 1
    assert "multiple of the VAE's factor 16" in capsys.readouterr().err
    assert main(["vae", "evaluate", str(tmp_path)]) == 1
    assert "config.json" in capsys.readouterr().err
