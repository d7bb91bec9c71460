"""A pipeline folder of diffusers becomes a bundle of ours and comes back with the same bits."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from qi2.cli import main
from qi2.convert import convert
from qi2.core.errors import QI2Error
from qi2.core.pretrained import POINTER
from qi2.models.mmdit import MMDiT
from qi2.models.mmdit_diffusers import load_mmdit, mmdit_to_diffusers
from qi2.models.vae_diffusers import load_vae
from qi2.pipeline import read_recipe

diffusers = pytest.importorskip("diffusers")

SCHEDULER = {
    "base_image_seq_len": 256, "max_image_seq_len": 8192, "base_shift": 0.5, "max_shift": 0.9, "shift_terminal": 0.02,
    "time_shift_type": "exponential", "use_dynamic_shifting": True,
}  # fmt: skip


def random_weights(module):
    for p in module.parameters():
        torch.nn.init.normal_(p, std=0.1)
    return module


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny networks as diffusers saves a pipeline; the condition encoder's folders hold only a config here."""
    folder = tmp_path_factory.mktemp("published")
    torch.manual_seed(0)
    transformer = diffusers.QwenImage21Transformer2DModel(
        in_channels=64, out_channels=64, num_layers=2, attention_head_dim=16, num_attention_heads=2, context_in_dim=24, axes_dims_rope=(4, 6, 6)
    )
    random_weights(transformer).to(torch.bfloat16).save_pretrained(folder / "transformer", max_shard_size="20KB")
    vae = diffusers.AutoencoderKLQwenImage21(base_dim=4, decoder_base_dim=4, num_res_blocks=1)
    random_weights(vae).save_pretrained(folder / "vae")
    diffusers.FlowMatchEulerDiscreteScheduler(**SCHEDULER).save_pretrained(folder / "scheduler")
    for part in ("text_encoder", "processor"):
        (folder / part).mkdir()
        (folder / part / "config.json").write_text(json.dumps({"part": part}))
    (folder / "processor" / "tokenizer.json").write_text("{}")
    parts = {part: ["diffusers", "any"] for part in ("transformer", "vae", "scheduler", "text_encoder", "processor")}
    index = {"_class_name": "QwenImage21Pipeline", "_diffusers_version": "0.42.1", "sample_sigmas": None, **parts}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def test_there_and_back_is_bit_equal(published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(published), str(tmp_path / "ours")]) == 0
    assert "qi2 generate --model" in capsys.readouterr().out
    assert main(["convert", str(tmp_path / "ours"), str(tmp_path / "theirs")]) == 0
    for part in ("transformer", "vae"):
        before, after = tensors(published / part), tensors(tmp_path / "theirs" / part)
        assert before.keys() == after.keys()
        assert all(a.dtype == after[name].dtype and torch.equal(a, after[name]) for name, a in before.items())
    for name in ("transformer/config.json", "vae/config.json", "scheduler/scheduler_config.json", "model_index.json", "text_encoder/config.json"):
        assert json.loads((published / name).read_text()) == json.loads((tmp_path / "theirs" / name).read_text()), name
    diffusers.QwenImage21Transformer2DModel.from_pretrained(tmp_path / "theirs" / "transformer")
    diffusers.AutoencoderKLQwenImage21.from_pretrained(tmp_path / "theirs" / "vae")


def test_the_bundle_samples_as_published_and_points_to_the_condition_encoder(published: Path, tmp_path: Path) -> None:
    convert(published, tmp_path / "ours")
    sampler = read_recipe(tmp_path / "ours")["sampler"]
    assert (sampler["dynamic_shift"], sampler["base_tokens"], sampler["terminal"], sampler["guidance"]) == (True, 256, 0.02, 1.0)
    pointer = json.loads((tmp_path / "ours" / "standins" / "vlm" / POINTER).read_text())
    assert pointer == {"path": str(published / "text_encoder"), "processor": str(published / "processor")}
    assert MMDiT.load(tmp_path / "ours" / "pretrain").proj_out.weight.dtype == torch.bfloat16


def test_a_changed_sampler_and_links_go_into_the_folder(published: Path, tmp_path: Path) -> None:
    convert(published, tmp_path / "ours")
    recipe = tmp_path / "ours" / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("max_shift: 0.9", "max_shift: 1.1"))
    convert(tmp_path / "ours", tmp_path / "theirs", link=True)
    written = json.loads((tmp_path / "theirs" / "scheduler" / "scheduler_config.json").read_text())
    assert (written["max_shift"], written["base_shift"]) == (1.1, 0.5)
    assert (tmp_path / "theirs" / "text_encoder").is_symlink()
    diffusers.FlowMatchEulerDiscreteScheduler.from_pretrained(tmp_path / "theirs" / "scheduler")


def test_both_kinds_of_folders_load_where_a_model_is_asked_for(published: Path, tmp_path: Path) -> None:
    convert(published, tmp_path / "ours")
    wanted = MMDiT.load(tmp_path / "ours" / "pretrain").state_dict()
    for folder in (published, published / "transformer", tmp_path / "ours" / "pretrain"):
        assert all(torch.equal(tensor, wanted[name]) for name, tensor in load_mmdit(folder).state_dict().items())
    assert load_vae(published / "vae").cfg.image_channels == 4


def test_what_cannot_be_converted_is_named(published: Path, tmp_path: Path) -> None:
    with pytest.raises(QI2Error, match="holds no model and no model_index.json"):
        convert(tmp_path, tmp_path / "out")
    convert(published, tmp_path / "ours")
    model = MMDiT.load(tmp_path / "ours" / "pretrain")
    model.config.gates = False
    with pytest.raises(QI2Error, match="has no mmdit.gates=False"):
        mmdit_to_diffusers(model, tmp_path / "out")
    for out, message in ((published.parent, "holds the source"), (tmp_path, "exists, and not as something that qi2 wrote")):
        with pytest.raises(QI2Error, match=message):
            convert(published, out)
    with pytest.raises(QI2Error, match="are for the other direction"):
        convert(published, tmp_path / "out", link=True)
    (published / "transformer").rename(published / "elsewhere")
    try:
        with pytest.raises(QI2Error, match="lacks the folder transformer"):
            convert(published, tmp_path / "out")
    finally:
        (published / "elsewhere").rename(published / "transformer")
    assert not (tmp_path / "out").exists()
