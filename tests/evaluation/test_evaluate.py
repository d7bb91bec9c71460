"""Evaluation of real (untrained) models: same prompts and noise for all, reproducible, and without side effects."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageChops

from qi2.core.errors import QI2Error
from qi2.core.publish import verify
from qi2.core.reporter import NullReporter
from qi2.data.world.render import render
from qi2.evaluation.evaluate import evaluate, evaluate_models
from qi2.evaluation.generate import Drawing, draw, encode_suite
from qi2.evaluation.models import chain_contenders, contenders
from qi2.evaluation.report import build_report
from qi2.evaluation.score import judge_edits, judge_t2i
from qi2.evaluation.store import Store
from qi2.evaluation.suite_exam import chosen
from qi2.evaluation.suites.world import edit_suite, t2i_suite
from qi2.models.condition import ConditionEncoder
from qi2.models.mmdit import MMDiT
from qi2.models.vae import VAE
from tests.evaluation.untrained import EVALUATE, Recipe, build_enhancer, build_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = build_run(tmp_path_factory.mktemp("runs") / "test")
    build_enhancer(folder)
    yield folder
    torch.set_num_threads(threads)


class Recorder(NullReporter):
    """Remembers the pictures it is given."""

    def __init__(self) -> None:
        self.images: dict[str, list[int]] = {}
        self.values: dict[str, float] = {}

    def image(self, key: str, image: Image.Image, step: int) -> None:
        self.images.setdefault(key, []).append(step)

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        self.values |= values


@pytest.fixture(scope="module")
def evaluated(run: Path) -> tuple[Path, Recorder]:
    recorder = Recorder()
    evaluate(Recipe(), run, run / "evaluate", recorder, run / "store")
    return run / "evaluate", recorder


def test_evaluation_publishes_figures_of_all_models_and_baselines(evaluated: tuple[Path, Recorder]) -> None:
    folder, recorder = evaluated
    verify(folder)
    figures = json.loads((folder / "results.json").read_text())["figures"]
    for model in ("pretrain", "continual", "sft", "rlhf", "distill", "teacher", "teacher_4step", "untrained_4step"):
        assert f"t2i/accuracy/{model}" in figures
    for name in (
        "edit/done/distill",
        "edit/kept_mae/sft",
        "edit/kept/sft",
        "edit/kept_mae_median/sft",
        "edit/kept_mae_by_kind/move/sft",
        "edit/done_source",
        "edit/vae_floor_mae",
        "rl/gain",
        "vae/psnr_world",
    ):
        assert name in figures, name
    assert figures["vae/ceiling"]["value"] == figures["vae/ceiling_pca"]["value"] == 1
    assert figures["vae/psnr_world_gain"]["value"] == 0
    assert figures["edit/done_source"]["value"] == 0
    assert json.loads((folder / "metrics.json").read_text()) == recorder.values


def test_tracker_gets_equal_keys_for_every_model_with_one_step_each(evaluated: tuple[Path, Recorder]) -> None:
    _, recorder = evaluated
    assert recorder.images["samples/prompt0"] == list(range(8))
    assert recorder.images["samples/edit0"] == list(range(5))
    assert {"grids/t2i", "grids/edit", "grids/vae_world"} <= set(recorder.images)


def test_same_seed_gives_the_same_figures_and_pictures(run: Path, evaluated: tuple[Path, Recorder], tmp_path: Path) -> None:
    figures = evaluate(Recipe(), run, tmp_path / "again", NullReporter())
    first = json.loads((evaluated[0] / "results.json").read_text())["figures"]
    assert {name: figure.to_json() for name, figure in figures.items()} == first
    for path in (evaluated[0] / "samples").rglob("*.png"):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(evaluated[0])).read_bytes()


def test_results_are_the_same_with_a_half_filled_store(run: Path, evaluated: tuple[Path, Recorder], tmp_path: Path) -> None:
    """Without a store: the test above."""
    store = Store(run / "store")
    drawn = sum(pictures for _, pictures, _ in store.models())
    rows = store.index.execute("select key from pictures order by key").fetchall()
    store.index.executemany("delete from pictures where key = ?", rows[::40])  # as a power cut or a prune may leave it: batches with holes
    recorder = Recorder()
    evaluate(Recipe(), run, tmp_path / "half", recorder, store.folder)
    assert recorder.values == evaluated[1].values
    for path in (evaluated[0] / "samples").rglob("*.png"):
        assert path.read_bytes() == (tmp_path / "half" / path.relative_to(evaluated[0])).read_bytes()
    assert sum(pictures for _, pictures, _ in store.models()) == drawn > 0


def test_the_line_s_last_models_are_evaluated_on_the_suites_that_the_recipe_names(run: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for stage in ("vae", "standins", "pretrain", "distill"):
        (tmp_path / "run" / stage).symlink_to(run / stage)
    config = replace(EVALUATE, prompts_per_kind=1, edit_kinds=[], vae_world=2, suites=["world-text", "world-compositional"], suite_prompts=4)
    recipe = Recipe(evaluate=config)
    figures = evaluate(recipe, tmp_path / "run", tmp_path / "out", NullReporter(), tmp_path / "store")
    names = [name for name in figures if name.startswith("suite/")]
    assert "suite/world-text/text-protocol/world-checker/score/distill" in names and figures[names[0]].n == 4
    assert not [name for name in names if name.endswith("/pretrain")]
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert set(results["suite"]["hashes"]) == {"t2i", "edit", "suite/world-text", "suite/world-compositional"}
    kept = results["suite/world-text"]
    assert [len(rows) for rows in kept["results"].values()] == [4] and kept["items"][0]["script"] == "Latin"
    shown = list((tmp_path / "out" / "samples" / "distill" / "suite").glob("world-text-*.png"))
    assert len(shown) == config.shown  # of one model
    again = evaluate(recipe, tmp_path / "run", tmp_path / "again", NullReporter(), tmp_path / "store")
    assert again == figures
    assert (tmp_path / "out" / "results.json").read_bytes() == (tmp_path / "again" / "results.json").read_bytes()


def test_world_and_all_stand_for_the_suites_that_somebody_can_answer() -> None:
    world = {suite.name for suite in chosen(replace(EVALUATE, suites=["world"]))}
    everything = {suite.name for suite in chosen(replace(EVALUATE, suites=["all"]))}
    assert {"world-text", "world-compositional"} <= world < everything
    assert "text-long" in everything - world
    assert not chosen(replace(EVALUATE, suites=["world"]), own_images=True)
    assert [suite.name for suite in chosen(replace(EVALUATE, suites=["pages"]), own_images=True)] == ["pages"]


def test_with_a_warm_store_no_model_is_even_loaded(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate_models(Recipe(), {"sft": run / "sft"}, run / "vae", run / "standins", tmp_path / "one", NullReporter(), store=tmp_path / "store")

    def load(*_: object) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr(MMDiT, "load", load)
    monkeypatch.setattr(ConditionEncoder, "load", load)
    evaluate_models(Recipe(), {"sft": run / "sft"}, run / "vae", run / "standins", tmp_path / "two", NullReporter(), store=tmp_path / "store")
    assert (tmp_path / "one" / "results.json").read_bytes() == (tmp_path / "two" / "results.json").read_bytes()


def test_report_shows_an_evaluated_run(run: Path, evaluated: tuple[Path, Recorder], tmp_path: Path) -> None:
    summary = build_report(Recipe(), run, tmp_path / "report")
    assert summary["figures"]["vae/ceiling"]["value"] == 1
    assert "4-step student" in (tmp_path / "report" / "index.html").read_text()


def test_champion_and_challenger_are_judged_on_the_chain_s_suites(run: Path, evaluated: tuple[Path, Recorder], tmp_path: Path) -> None:
    models = {"champion": run / "sft", "challenger": run / "distill"}
    evaluate_models(Recipe(), models, run / "vae", run / "standins", tmp_path / "night", NullReporter())
    night = json.loads((tmp_path / "night" / "results.json").read_text())
    chain = json.loads((evaluated[0] / "results.json").read_text())
    assert night["suite"]["hashes"] == chain["suite"]["hashes"]
    assert night["t2i"]["results"]["champion"] == chain["t2i"]["results"]["sft"]
    assert night["t2i"]["results"]["challenger"] == chain["t2i"]["results"]["distill"]
    assert night["models"]["challenger"]["shift"] == Recipe().sampler.few_shift


def test_models_draw_in_the_type_and_on_the_device_that_the_recipe_names(run: Path, tmp_path: Path) -> None:
    def drawn(name: str, **settings: object) -> Image.Image:
        recipe = replace(Recipe(), evaluate=replace(EVALUATE, **settings))
        evaluate_models(recipe, {"sft": run / "sft"}, run / "vae", run / "standins", tmp_path / name, NullReporter())
        return Image.open(next(iter(sorted((tmp_path / name / "samples" / "sft").glob("t2i-*"))))).convert("RGB")

    difference = np.abs(np.asarray(drawn("full"), int) - np.asarray(drawn("half", dtype="bfloat16"), int))
    assert 0 < difference.mean() < 8
    with pytest.raises(QI2Error, match="unknown dtype 'int8'"):
        drawn("wrong", dtype="int8")
    with pytest.raises(QI2Error, match="unknown device 'gpu'"):
        drawn("nowhere", device="gpu")
    with pytest.raises(QI2Error, match="evaluate.workers=2 processes draw on a CPU only"):
        drawn("forked", device="meta", workers=2)


def test_evaluation_without_a_trained_model_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(QI2Error, match="run stage pretrain"):
        evaluate(Recipe(), tmp_path, tmp_path / "evaluate", NullReporter())


def test_partial_chain_is_evaluated_without_inventing_the_rest(run: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for stage in ("vae", "standins", "pretrain"):
        (tmp_path / "run" / stage).symlink_to(run / stage)
    figures = evaluate(Recipe(), tmp_path / "run", tmp_path / "run" / "evaluate", NullReporter())
    assert "t2i/accuracy/pretrain" in figures
    assert not [name for name in figures if "sft" in name or name.startswith(("rl/", "distill/"))]


def test_evaluation_leaves_global_random_state_alone(run: Path, tmp_path: Path) -> None:
    torch.manual_seed(11)
    np.random.seed(11)
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    evaluate_models(Recipe(), {"sft": run / "sft"}, run / "vae", run / "standins", tmp_path / "out", NullReporter())
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)


def test_picture_does_not_depend_on_the_batch_or_the_process_it_was_drawn_in(run: Path) -> None:
    encoder, vae, model = ConditionEncoder.load(run / "standins" / "vlm"), VAE.load(run / "vae"), MMDiT.load(run / "sft")
    items = edit_suite(EVALUATE)
    suite = encode_suite(encoder, vae, [i.prompt for i in items], [i.references(64) for i in items], [i.noise_seed for i in items], 64)
    (entry,) = contenders(Recipe(), {"sft": run / "sft"}, 2)
    drawn = [draw(Drawing(model, entry, suite, vae, batch), workers) for batch, workers in ((7, 0), (1, 0), (3, 2))]
    for pictures in zip(*drawn, strict=True):
        for other in pictures[1:]:
            assert max(high for _, high in ImageChops.difference(pictures[0], other).getextrema()) <= 1


def test_perfect_pictures_pass_and_swapped_ones_fail() -> None:
    config = replace(EVALUATE, prompts_per_kind=10, edits_per_kind=5)
    items, edits = t2i_suite(config), edit_suite(config)
    truth = [render(item.scene, 64) for item in items]
    assert np.mean([v["all"] for v in judge_t2i(truth, items)]) == 1
    assert np.mean([v["all"] for v in judge_t2i(truth[1:] + truth[:1], items)]) < 0.05
    sources = [item.references(64)[0] for item in edits]
    perfect = judge_edits([item.target(64) for item in edits], edits, sources)
    assert all(v["done"] and v["all"] for v in perfect)
    assert max(v["kept_mae"] for v in perfect) == 0
    assert not any(v["done"] for v in judge_edits(sources, edits, sources))


def test_contenders_differ_only_where_they_should(run: Path) -> None:
    entries = {entry.name: entry for entry in chain_contenders(Recipe(), run)}
    assert entries["teacher"].schedule.steps == EVALUATE.steps
    assert entries["rlhf"].schedule.steps == EVALUATE.chain_steps
    assert entries["distill"].evaluations() == entries["untrained_4step"].evaluations() == Recipe().sampler.few_steps
    assert entries["teacher_4step"].evaluations() == 2 * Recipe().sampler.few_steps
    assert entries["untrained_4step"].folder == entries["teacher_4step"].folder == entries["rlhf"].folder


def test_the_enhancer_is_judged_in_full_short_and_rewritten_and_shown_in_the_report(run: Path, evaluated: tuple[Path, Recorder]) -> None:
    folder, _ = evaluated
    results = json.loads((folder / "results.json").read_text())
    kept = json.loads((folder / "enhanced.json").read_text())["items"]
    assert (len(kept["t2i"]), len(kept["ti2i"])) == (3 * len(EVALUATE.kinds), len(EVALUATE.edit_kinds))
    for task, rows in kept.items():
        for version in ("full", "short", "sft", "rewritten", "full_rewritten"):
            right = [row["right"][version] for row in rows]
            assert results["figures"][f"enhancer/{task}/accuracy/{version}"]["value"] == sum(right) / len(right)
        assert all(row["prompts"]["rewritten"] == row["prompts"]["short"] and row["fallback"] for row in rows)  # an untrained model says nothing of use
    build_report(Recipe(), run, run / "report")
    page = (run / "report" / "index.html").read_text()
    assert "Before and after the enhancer" in page and "kept as it was: the reply holds no prompt" in page
