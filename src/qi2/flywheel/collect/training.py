"""What training itself drew: the sheets of fixed training prompts that a phase keeps (`mmdit.preview`), judged by the world's exact checker.

A sheet shows eight samples. Rows without an exact truth give no signal; reinforcement learning keeps no pictures of its rollouts, and its judge's sheets
are of held-out prompts: neither is read here.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from qi2.core.errors import QI2Error
from qi2.core.publish import file_sha256
from qi2.data.shards import Sidecar
from qi2.data.world.checker import check, check_edit
from qi2.data.world.edits import Edit
from qi2.data.world.scene import Scene
from qi2.data.world.split import is_heldout
from qi2.evaluation.run_folder import RunFolder
from qi2.flywheel.signals import Signal
from qi2.flywheel.store import SignalStore
from qi2.mmdit.preview import drawn, shown
from qi2.training.joined import open_set
from qi2.training.pictures import cover

if TYPE_CHECKING:
    from qi2.recipe import Recipe

STEP = re.compile(r"samples_fixed@(\d+)\.png")


def training_failures(cfg: "Recipe", runs: Path, phase: str, store: SignalStore) -> list[Signal]:
    """Failures on the newest sheet of a phase (pretrain, continual, sft); none where it kept no sheet.

    Raises QI2Error where the encoded samples are not those that the sheet was drawn from.
    """
    sheets = newest_sheet(Path(runs) / phase / "images")
    stages = getattr(cfg, phase).stages
    if sheets is None or not stages:
        return []
    path, step = sheets
    stage, size = stages[-1].stage, max(stages[-1].sizes)
    data, side = open_set(Path(runs) / "encoded"), Sidecar.load(Path(runs) / "datasets" / f"s{stage}")
    samples = shown(data, stage, size, cfg.seed)
    with Image.open(path) as sheet:
        pictures = drawn(sheet.convert("RGB"), samples)
    table = side.table.set_index("id")
    facts = {"file": f"{phase}/images/{path.name}", "sha256": file_sha256(path), "step": step, "stage": stage}
    facts["weights"] = RunFolder(Path(runs)).hashes(phase).get("model.safetensors", "")
    found = []
    for sample, picture in zip(samples, pictures, strict=True):
        name = str(data.rows["id"][sample.row])
        if name not in table.index:
            raise QI2Error(f"{side.folder} has no row {name}, which {path} shows; run the stages from curate on again")
        line = {str(key): value for key, value in table.loc[name].to_dict().items()}
        number = list(data.rows[f"prompts_{size}"][sample.row]).index(sample.prompt)
        signal = _judge(line, list(line["captions"])[number], picture, side, phase, {**facts, "row": name, "noise": ["preview/noise", sample.row]}, store)
        found += [signal] if signal else []
    return found


def newest_sheet(folder: Path) -> tuple[Path, int] | None:
    """The sheet of the last step, and the step."""
    found = [(int(match[1]), path) for path in folder.glob("*.png") if (match := STEP.fullmatch(path.name))]
    return (max(found)[1], max(found)[0]) if found else None


def _judge(
    row: dict[str, Any], prompt: str, picture: Image.Image, side: Sidecar, phase: str, facts: dict[str, Any], store: SignalStore
) -> Signal | None:  # fmt: skip
    """A signal where the picture is wrong by its row's truth."""
    task, kind, truth = "t2i", str(row["kind"]), row["scene"] or ""
    references: list[Image.Image] = []
    if row["task"] == "ti2i" and row["edit"]:
        edit = Edit.from_json(row["edit"])
        references = [cover(side.image(name), picture.size) for name in row["references"]]
        found = check_edit(picture, edit, references[0])
        right, said = bool(found["all"]), {"attributes": {"done": bool(found["done"])}, "kept_mae": float(found["kept_mae"])}
        task, kind, truth, held = "ti2i", f"edit/{kind}", row["edit"], any(is_heldout(scene) for scene in (*edit.references, edit.target))
    elif row["task"] == "t2i" and truth:
        scene = Scene.from_json(truth)
        verdict = {name: bool(value) for name, value in check(picture, scene).items()}
        right, said, held = verdict.pop("all"), {"attributes": verdict}, is_heldout(scene)
    else:
        return None
    if right:
        return None
    kept = tuple(store.keep(image) for image in references)
    return Signal("training", task, kind, prompt, phase, said, truth, store.keep(picture), kept, 0, facts, heldout=held)
