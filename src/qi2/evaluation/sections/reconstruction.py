"""Editing beside its floor and its ceiling, and what the VAE keeps of an image."""

from collections.abc import Callable
from html import escape

from qi2.evaluation.models import LABELS
from qi2.evaluation.report_html import mark, missing, number, picture, table
from qi2.evaluation.run_folder import CHAIN, RunFolder
from qi2.evaluation.score import KEPT_MULTIPLE
from qi2.evaluation.sections.chain import by_kind, measured, pictures, sample

SETS = {"world": "world images", "photo": "photographs"}


def editing(run: RunFolder) -> str:
    """Editing figures beside the unchanged source and the VAE's floor, then triplets source | result | reference target."""
    if not run.results.get("edit"):
        return missing("Edits", "evaluate")
    figures, edit = run.figures, run.results["edit"]
    models = [name for name in LABELS if name in edit["results"]]
    rows = [
        [
            LABELS[m],
            *measured(figures.get(f"edit/done/{m}")),
            number(figures.get(f"edit/kept_mae/{m}"), 1),
            number(figures.get(f"edit/kept_mae_median/{m}"), 1),
            number(figures.get(f"edit/kept/{m}")),
        ]
        for m in models
    ]
    rows.append(["<i>unchanged source</i>", *measured(figures.get("edit/done_source"), colour=7), *["0.0 by definition"] * 2, "1.00 by definition"])
    floor, middle = (number(figures.get(f"edit/vae_floor_mae{name}"), 1) for name in ("", "_median"))
    rows.append(["<i>perfect edit through the VAE</i>", *measured(figures.get("edit/done_ceiling"), colour=7), floor, middle, ""])
    intro = (
        f"<p>{len(edit['items'])} held-out edits. <b>Done</b>: the checker finds what the instruction asked for. <b>Error where nothing "
        "may change</b>: mean absolute error (0–255) over the pixels that the edit must leave alone. A model that copies its input has no "
        "error and nothing done; the VAE alone already costs the floor in the last row. Another object drawn in place of a kept one costs "
        "more than all copying; the median over edits leaves those few out. <b>Rest kept</b>: the error is at most "
        f"{KEPT_MULTIPLE:g} times the floor.</p>"
    )
    head = ["model", "done", "0 … 1", "error where nothing may change", "its median", "rest kept"]
    return (
        intro
        + table(head, rows)
        + by_kind(run, "Done, by kind of edit", "edit/done_by_kind")
        + by_kind(run, "Error where nothing may change, by kind", "edit/kept_mae_by_kind")
        + _triplets(run)
    )


def _triplets(run: RunFolder) -> str:
    edit = run.results["edit"]
    present = [model for model in CHAIN if model in edit["results"]]
    rows = []
    for index, item in enumerate(edit["items"][: run.results["shown"]]):
        labels = [f"image {j + 1}" if item["references"] > 1 else "" for j in range(item["references"])]
        sources = "".join(sample(run, f"source/edit-{index}-{j}", label) for j, label in enumerate(labels))
        cells = [f"“{escape(item['prompt'])}”", f'<div class="row small">{sources}</div>']
        for model in present:
            verdict = edit["results"][model][index]
            cells.append(sample(run, f"{model}/edit-{index}", f"{mark(verdict['done'])} error {verdict['kept_mae']:.1f}", item["prompt"]))
        rows.append([*cells, sample(run, f"target/edit-{index}")])
    return "<h3>Source, results, target</h3>" + pictures(["instruction", "source", *(LABELS[m] for m in present), "target"], rows)


def vae(run: RunFolder) -> str:
    """Reconstruction figures beside the linear start, and pairs of original and reconstruction."""
    if not run.has("vae"):
        return missing("Reconstructions", "vae")
    figures, rows = run.figures, []
    for key, label in SETS.items():
        if f"vae/psnr_{key}" in figures:
            psnr = [number(figures.get(f"vae/psnr_{key}{end}")) for end in ("", "_pca")]
            ssim = [number(figures.get(f"vae/ssim_{key}{end}"), 3) for end in ("", "_pca")]
            rows.append([label, str(figures[f"vae/psnr_{key}"].n), *psnr, *ssim])
    if not rows:
        return missing("Reconstruction figures", "evaluate")
    head = ["held-out", "n", "PSNR (dB)", "linear start (PCA)", "SSIM", "linear start (PCA)"]
    figure, start = figures.get("vae/ceiling"), figures.get("vae/ceiling_pca")
    before = f" (linear start: {number(start, 3)})" if start else ""
    ceiling = f"<p>Exact checker on reconstructions of held-out world images: {number(figure, 3)}{before}. " if figure else "<p>"
    note = "No model of the chain can be expected to score higher.</p>" if figure else "</p>"
    return f"{table(head, rows)}{ceiling}{note}{_reconstructions(run)}"


def _reconstructions(run: RunFolder) -> str:
    shown = []
    for original in sorted((run.path / "evaluate" / "samples" / "vae").glob("*-original.png")):
        column = [original.with_name(original.name.replace("-original", f"-{ending}")) for ending in ("original", "pca", "decoded")]
        shown.append(f'<div class="small pair">{"".join(picture(path) for path in column if path.exists())}</div>')
    title = "<h3>From top to bottom: original, linear start (where there is one), through the VAE</h3>"
    return f'{title}<div class="row">{"".join(shown)}</div>' if shown else ""


SECTIONS: list[tuple[str, str, Callable[[RunFolder], str]]] = [("editing", "Editing", editing), ("vae", "VAE", vae)]
