"""Three planted weaknesses and a control: is each found, routed to the right track and repaired in one round? ``python -m benchmarks.flywheel``.

Reads a finished ``make run SCALE=tiny`` (``--run``) and works in ``--out``: plants a weakness (`benchmarks.flywheel_plants`), collects failures on prompts of
training combinations (so that nothing held out is used), runs attribution, takes the decided track, trains what it affects, and compares before and after
on fresh prompts of the weak category and on the published held-out suite, paired. ``--only letter reward phrasing control``. Every case prints one line of
JSON and leaves it in ``--out``/CASE.json; ``docs/flywheel.md`` keeps the results. Two to ten minutes each on one core.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks import flywheel_plants as plants

SIGNALS, FRESH = 91, 92  # seeds of the prompts on which failures are collected, and of those on which a repair is judged
CASES = ("control", "letter", "reward", "phrasing")


class Bench:
    """One finished run and a folder to work in."""

    def __init__(self, recipe: Any, base: Path, out: Path, prompts: int) -> None:
        self.recipe, self.base, self.out, self.prompts = recipe, base, out, prompts
        self.corpus: Any = None  # of the run that was diagnosed last

    def scenes(self, seed: int, kinds: Sequence[str], n: int, keep: Callable[[Any], bool] = lambda scene: True, split: str = "train") -> list[Any]:
        """Cases of ``n`` random scenes of every kind, as a user would ask for them."""
        from qi2.core.rng import numpy_rng
        from qi2.data.world.captions import captions
        from qi2.data.world.sample import sample_scene
        from qi2.flywheel.attribution.cases import Case

        found = []
        for kind in kinds:
            own, i = list[Case](), 0
            while len(own) < n:
                draw = numpy_rng(seed, f"benchmark/flywheel/{kind}/{split}", i)
                scene, i = sample_scene(draw, kind, split), i + 1
                if keep(scene):
                    own.append(Case(f"{seed}-{kind}-{split}-{i}", "t2i", kind, captions(scene, draw, 1)[0], (), scene))
            found += own
        return found

    def right(self, runs: Path, model: str, cases: Sequence[Any]) -> list[bool]:
        """One picture of every prompt, with its own noise."""
        from qi2.core.rng import key
        from qi2.flywheel.attribution import judges, probes

        shots = [probes.Shot(i, probes.OWN, case.prompt, key(FRESH, case.id)) for i, case in enumerate(cases)]
        painter = probes.Painter(self.recipe, runs, model)
        return judges.Judged()(list(zip(cases, painter(cases, shots), strict=True)))

    def failures(self, runs: Path, model: str, cases: Sequence[Any]) -> tuple[list[Any], dict[tuple[str, str], int]]:
        """The cases that fail, each with what was wrong, and how many of every kind were tried."""
        from qi2.core.rng import key
        from qi2.data.world.checker import check
        from qi2.flywheel.attribution import probes

        shots = [probes.Shot(i, probes.OWN, case.prompt, key(SIGNALS, case.id)) for i, case in enumerate(cases)]
        pictures = probes.Painter(self.recipe, runs, model)(cases, shots)
        found = []
        for case, picture in zip(cases, pictures, strict=True):
            verdict = check(picture, case.truth)
            if not verdict["all"]:
                found.append(replace(case, failed=tuple(sorted(name for name, fine in verdict.items() if name != "all" and not fine))))
        return found, dict(Counter((case.task, case.kind) for case in cases))

    def diagnose(self, runs: Path, model: str, cases: Sequence[Any], tested: Any) -> Any:
        """Attribution of failures with the models of a run, and how near its training prompts are."""
        from qi2.flywheel.attribution.diagnose import diagnose
        from qi2.flywheel.retrieval.corpus import Corpus, accepted_shards

        flywheel = replace(self.recipe.flywheel, probes=replace(self.recipe.flywheel.probes, model=model))
        self.corpus = Corpus.open(runs, self.out / f"corpus-{runs.name}", pictures=False, extra=accepted_shards(runs))
        return diagnose(replace(self.recipe, flywheel=flywheel), runs, cases, tested, self.corpus.similarities)

    def heldout(self, runs: Path, model: str) -> dict[str, dict[str, bool]]:
        """Right or wrong of the published held-out prompts, by category."""
        from qi2.evaluation.suites.world import t2i_suite
        from qi2.flywheel.attribution import judges, probes
        from qi2.flywheel.attribution.cases import Case

        items = t2i_suite(self.recipe.evaluate)
        cases = [Case(item.id, "t2i", item.kind, item.prompt, (), item.scene) for item in items]
        shots = [probes.Shot(i, probes.OWN, item.prompt, item.noise_seed) for i, item in enumerate(items)]
        verdicts = judges.Judged()(list(zip(cases, probes.Painter(self.recipe, runs, model)(cases, shots), strict=True)))
        found: dict[str, dict[str, bool]] = {}
        for item, fine in zip(items, verdicts, strict=True):
            found.setdefault(f"t2i/{item.kind}", {})[item.id] = fine
        return found

    def repaired(self, before: Sequence[bool], after: Sequence[bool]) -> dict[str, Any]:
        """Accuracy of the weak category on fresh prompts, and the paired gain."""
        from qi2.evaluation.bootstrap import Bootstrap

        boot = Bootstrap(0)
        shares = {name: boot.mean([float(x) for x in values]).to_json() for name, values in (("before", before), ("after", after))}
        return shares | {"gain": boot.difference([float(x) for x in after], [float(x) for x in before]).to_json()}

    def others(self, before: Any, after: Any, acted: Sequence[str]) -> dict[str, Any]:
        """Every category of the held-out suite; untouched ones are tested together, and pooled."""
        from qi2.evaluation.bootstrap import Bootstrap
        from qi2.flywheel.report import compare, untouched

        boot, tracks = Bootstrap(0), dict.fromkeys(acted, ("acted",))
        rest = untouched(before, after, tracks, boot)
        return {"categories": [asdict(category) for category in compare(before, after, tracks, boot)], "untouched": rest.to_json() if rest else None}


def found(diagnosis: Any, planted: dict[str, str]) -> dict[str, Any]:
    """What attribution said, with precision and recall."""
    from qi2.flywheel.attribution.measure import measure

    scores = {track: score.to_json() for track, score in measure(diagnosis.decisions, planted).items() if score.planted or score.sent}
    return {"failures": len(diagnosis.cases), "tracks": diagnosis.counts(), "scores": scores, "reasons": diagnosis.reasons()}


def control(bench: Bench) -> dict[str, Any]:
    """Nothing is planted: the run's sft and aligned models as they are."""
    result: dict[str, Any] = {}
    for model in ("sft", "rlhf"):
        cases, tested = bench.failures(bench.base, model, bench.scenes(SIGNALS, bench.recipe.evaluate.kinds, bench.prompts))
        diagnosis = bench.diagnose(bench.base, model, cases, tested)
        result[model] = found(diagnosis, {})
        result[model]["changes_nothing"] = set(diagnosis.counts()) - {"none"} == {name for name, n in diagnosis.counts().items() if not n}
    return result


def letter(bench: Bench) -> dict[str, Any]:
    """A letter withheld from all training data; one round brings renders of it into supervised fine-tuning."""
    from qi2.flywheel.attribution.cases import said

    runs = bench.out / "letter"
    plants.plant_letter(bench.recipe, bench.base, runs)
    feature = f"letter {plants.LETTER}"
    asked = bench.scenes(SIGNALS, bench.recipe.evaluate.kinds, bench.prompts)
    cases, tested = bench.failures(runs, "sft", asked)
    planted = {case.id: "pretraining" for case in cases if feature in said(case.prompt)}
    diagnosis = bench.diagnose(runs, "sft", cases, tested)
    result = {"asked": len(asked), "with_letter": sum(feature in said(case.prompt) for case in asked), **found(diagnosis, planted)}
    fresh = bench.scenes(FRESH, ["text"], bench.prompts, plants.has_letter, "any")
    before, before_suite = bench.right(runs, "sft", fresh), bench.heldout(runs, "sft")
    result["data"] = plants.repair_data(bench.recipe, diagnosis, bench.corpus, runs, bench.out / "letter-data")
    after = bench.out / "letter-after"
    plants.link(runs, after, [*plants.SHARED, "encoded", "continual"])
    plants.train(bench.recipe, after, ("sft",), bench.out / "letter-data" / "stage" / "encoded")
    result["weak"] = bench.repaired(before, bench.right(after, "sft", fresh))
    return result | bench.others(before_suite, bench.heldout(after, "sft"), ["t2i/text"])


def reward(bench: Bench) -> dict[str, Any]:
    """A reward that does not see counts; one round gives weight to one that does."""
    from qi2.flywheel.tracks import rl

    runs = bench.out / "reward"
    plants.plant_reward(bench.recipe, bench.base, runs)
    cases, tested = bench.failures(runs, "rlhf", bench.scenes(SIGNALS, bench.recipe.evaluate.kinds, bench.prompts))
    diagnosis = bench.diagnose(runs, "rlhf", cases, tested)
    planted = {case.id: "rl" for case in cases if case.kind == "count"}
    blind = plants.blind(bench.recipe)
    change = rl.adjust(diagnosis.decisions, diagnosis.by_id, blind.rlhf, blind.rlhf, bench.recipe.flywheel.rl)
    result = {**found(diagnosis, planted), "change": asdict(change)}
    fresh = bench.scenes(FRESH, ["count"], bench.prompts)
    before, before_suite = bench.right(runs, "rlhf", fresh), bench.heldout(runs, "rlhf")
    after = bench.out / "reward-after"
    plants.link(runs, after, [*plants.SHARED, "encoded", "sft"])
    plants.align(plants.overridden(blind, change.overrides), after, {"salient": plants.salient})
    result["weak"] = bench.repaired(before, bench.right(after, "rlhf", fresh))
    result["start"] = bench.repaired(before, bench.right(runs, "sft", fresh))
    return result | bench.others(before_suite, bench.heldout(after, "rlhf"), ["t2i/count"])


def phrasing(bench: Bench) -> dict[str, Any]:
    """Names that no caption has; one round teaches them to the prompt enhancer."""
    from qi2.flywheel.retrieval.leaks import HeldOut
    from qi2.flywheel.tracks import prompts

    plain = bench.scenes(SIGNALS, ["one", "two", "relation"], bench.prompts)
    said = [replace(case, id=f"new-{case.id}", prompt=plants.rephrase(case.prompt)) for case in plain]
    runs = bench.out / "phrasing"
    plants.link(bench.base, runs, [*plants.SHARED[:-1], "encoded", "sft"])
    plants.train_enhancer(bench.recipe, runs, {})
    cases, tested = bench.failures(runs, "sft", [*plain, *said])
    diagnosis = bench.diagnose(runs, "sft", cases, tested)
    planted = {case.id: "prompt" for case in cases if case.id.startswith("new-")}
    heldout = cache(lambda: HeldOut.open(bench.base, pictures=False))
    learnt = prompts.learn(diagnosis.decisions, diagnosis.by_id, diagnosis.known, bench.recipe.flywheel.prompts, heldout)
    overrides = prompts.write(learnt, bench.out / "phrasing-wordings", heldout)
    result = {**found(diagnosis, planted), "wordings": learnt.phrases, "examples": len(learnt.examples), "reasons_of_track": learnt.reasons}
    after = bench.out / "phrasing-after"
    plants.link(runs, after, [*plants.SHARED[:-1], "encoded", "sft"])
    plants.train_enhancer(bench.recipe, after, overrides)
    fresh = bench.scenes(FRESH, ["one", "two", "relation"], bench.prompts)
    new = [replace(case, id=f"new-{case.id}", prompt=plants.rephrase(case.prompt)) for case in fresh]

    def answered(folder: Path, cases: Sequence[Any]) -> list[bool]:
        return bench.right(runs, "sft", plants.rewritten(folder, cases))

    result["weak"] = bench.repaired(answered(runs, new), answered(after, new))
    result["plain_words"] = bench.repaired(bench.right(runs, "sft", fresh), bench.right(runs, "sft", new))
    result["plain_enhanced"] = bench.repaired(answered(runs, fresh), answered(after, fresh))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flywheel", description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("runs/tiny"), help="a finished run of scale tiny; it is only read")
    parser.add_argument("--config", type=Path, default=Path("conf/resolved/tiny.yaml"), help="the resolved configuration that it was made with")
    parser.add_argument("--out", type=Path, default=Path("runs/flywheel-benchmark"))
    parser.add_argument("--only", nargs="+", default=list(CASES), choices=CASES)
    parser.add_argument("--prompts", type=int, default=150, help="of every kind, on which failures are collected and repairs are judged")
    given = parser.parse_args()
    import torch
    import yaml

    from tasks.config import recipe_of

    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(recipe_of(yaml.safe_load(given.config.read_text())), given.run, given.out, given.prompts)
    for name in given.only:
        started = time.monotonic()
        result = {"case": name, **globals()[name](bench)}
        result["seconds"] = round(time.monotonic() - started, 1)
        (given.out / f"{name}.json").write_text(json.dumps(result, indent=1))
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
