"""The tests of attribution: every failing prompt drawn again in several ways, and judged.

All pictures of all failing prompts that share a sampler are drawn together. The failed model answers with its own sampler for other noise and other
wordings; guidance and more steps are asked of a many-step model (the student's teacher), since a distilled student has neither.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from qi2.core import rng
from qi2.core.errors import QI2Error
from qi2.evaluation.generate import Drawing, draw, encode_suite
from qi2.evaluation.models import CHAIN, STUDENT, TEACHER, Contender, contenders, is_student
from qi2.flywheel.attribution.cases import T2I, Case, Evidence
from qi2.models.condition import ConditionEncoder
from qi2.models.mmdit import MMDiT
from qi2.models.vae import VAE

if TYPE_CHECKING:
    from qi2.recipe import Recipe

OWN, LOW, HIGH, STEPS, BEFORE, REWORDED, ENHANCED = "own", "low", "high", "steps", "before", "reworded", "enhanced"
ALIGNED, UNALIGNED = ("rlhf", STUDENT), "sft"
Judge = Callable[[Sequence[tuple[Case, Image.Image]]], list[bool]]
"""Whether pictures are right, each against its case."""
Reword = Callable[[Sequence[Case]], list[list[str]]]
"""Other prompts for every case; none where there are none."""


@dataclass(frozen=True)
class Shot:
    """One picture to draw: of a case, for a probe, with a prompt and the key of its noise."""

    case: int
    probe: str
    prompt: str
    seed: int


def last_model(runs: Path) -> str:
    """The last stage of the chain that has a model. Raises QI2Error where none has."""
    found = [name for name in CHAIN if (runs / name / "model.safetensors").exists()]
    if not found:
        raise QI2Error(f"{runs} has no trained model whose failures could be tested; run `make run` first")
    return found[-1]


class Painter:
    """Draws shots with the models of a run. ``runs``: its folder with vae, standins/vlm and the chain's stages."""

    def __init__(self, cfg: "Recipe", runs: Path, model: str = "") -> None:
        self.cfg, self.runs, self.probes = cfg, Path(runs), cfg.flywheel.probes
        self.vae, self.encoder = VAE.load(self.runs / "vae"), ConditionEncoder.load(self.runs / "standins" / "vlm")
        self.name = model or self.probes.model or last_model(self.runs)
        self.failed, guided = self._contender(self.name), self.name
        if is_student(self.name, self.runs / self.name):
            guided = next((name for name in (TEACHER, "sft", "continual", "pretrain") if self._has(name)), STUDENT)
        self.guided = self._contender(guided)
        self.before = self._contender(UNALIGNED) if self.name in ALIGNED and self._has(UNALIGNED) else None

    @property
    def variants(self) -> tuple[str, ...]:
        """The probes beside its own sampler that this model allows."""
        return (LOW, HIGH, STEPS, *((BEFORE,) if self.before else ()))

    def _has(self, name: str) -> bool:
        return (self.runs / name / "model.safetensors").exists()

    def _contender(self, name: str) -> Contender:
        if not self._has(name):
            raise QI2Error(f"{self.runs / name} holds no model; name one of the chain's stages in flywheel.probes.model")
        return contenders(self.cfg, {name: self.runs / name}, self.probes.steps or self.cfg.evaluate.chain_steps)[0]

    def sampler(self, probe: str) -> Contender:
        """How a probe is drawn."""
        base = self.guided
        if probe == BEFORE and self.before:
            return self.before
        if probe in (LOW, HIGH):
            factor = self.probes.low if probe == LOW else self.probes.high
            moved = [max(1.0, value * factor) for value in (base.guidance, base.edit_guidance)]
            return replace(base, name=probe, guidance=moved[0], edit_guidance=moved[1])
        if probe == STEPS:
            return replace(base, name=probe, schedule=replace(base.schedule, steps=round(base.schedule.steps * self.probes.more)))
        return self.failed

    def __call__(self, cases: Sequence[Case], shots: Sequence[Shot]) -> list[Image.Image]:
        """One picture per shot, in their order; those of one sampler and task together."""
        pictures: dict[int, Image.Image] = {}
        groups: dict[tuple[Any, ...], list[int]] = {}
        for i, shot in enumerate(shots):
            groups.setdefault((self.sampler(shot.probe).sampler(), cases[shot.case].task), []).append(i)
        for members in groups.values():
            contender = self.sampler(shots[members[0]].probe)
            drawn = self._draw(contender, [shots[i] for i in members], cases)
            pictures |= dict(zip(members, drawn, strict=True))
        return [pictures[i] for i in range(len(shots))]

    def _draw(self, contender: Contender, shots: Sequence[Shot], cases: Sequence[Case]) -> list[Image.Image]:
        asked = list(dict.fromkeys((shot.prompt, shot.case if cases[shot.case].references else -1) for shot in shots))
        references = [list(cases[case].references) if case >= 0 else [] for _, case in asked]
        once = encode_suite(self.encoder, self.vae, [prompt for prompt, _ in asked], references, [], self.cfg.evaluate.size)
        place = {key: i for i, key in enumerate(asked)}
        order = [place[shot.prompt, shot.case if cases[shot.case].references else -1] for shot in shots]
        suite = replace(
            once, prompts=[once.prompts[i] for i in order], references=[once.references[i] for i in order], noise_seeds=[shot.seed for shot in shots]
        )
        return draw(Drawing(MMDiT.load(contender.folder), contender, suite, self.vae, self.probes.batch), self.probes.workers)


def plan(cfg: "Recipe", cases: Sequence[Case], variants: Sequence[str], rewordings: Sequence[Sequence[str]], enhanced: Sequence[str]) -> list[Shot]:
    """Every picture of every test. ``rewordings``: other prompts per case; ``enhanced``: the enhancer's prompt per case, empty where it has none."""
    probes = cfg.flywheel.probes
    shots: list[Shot] = []
    for i, case in enumerate(cases):
        counts = {OWN: probes.samples, **dict.fromkeys(variants, probes.variant)}
        if case.task != T2I and cfg.sampler.edit_guidance == 1:
            counts.pop(LOW, None)  # there is none below
        shots += [Shot(i, probe, case.prompt, _noise(probes.seed, case, j)) for probe, count in counts.items() for j in range(count)]
        for k, text in enumerate(rewordings[i]):
            shots += [Shot(i, REWORDED, text, _noise(probes.seed, case, k * probes.each + j)) for j in range(probes.each)]
        if enhanced[i]:
            shots += [Shot(i, ENHANCED, enhanced[i], _noise(probes.seed, case, j)) for j in range(probes.samples)]
    return shots


def _noise(seed: int, case: Case, number: int) -> int:
    """The same noise for every probe's n-th picture of a prompt, so that probes differ by what they change alone."""
    return rng.key(rng.key(seed, f"flywheel/{case.task}/{case.prompt}"), "noise", number)


def run(cfg: "Recipe", cases: Sequence[Case], painter: Painter, judge: Judge, reword: Reword, enhance: Reword | None = None) -> list[Evidence]:
    """Run every test on every case; evidence in their order, without neighbours (`add_neighbours`)."""
    if not cases:
        return []
    rewritten = enhance(cases) if enhance else [[] for _ in cases]
    enhanced = [texts[0] if texts and texts[0] != case.prompt else "" for case, texts in zip(cases, rewritten, strict=True)]
    shots = plan(cfg, cases, painter.variants, reword(cases), enhanced)
    verdicts = judge([(cases[shot.case], picture) for shot, picture in zip(shots, painter(cases, shots), strict=True)])
    found = [Evidence(case) for case in cases]
    for shot, right in zip(shots, verdicts, strict=True):
        found[shot.case].add(shot.probe, right, shot.prompt if shot.probe in (REWORDED, ENHANCED) else "")
    return found


Near = Callable[[Sequence[str], int], Sequence[Sequence[float]]]
"""Similarities of the ``k`` nearest training samples of every prompt, best first."""


def add_neighbours(evidence: Sequence[Evidence], near: Near, ordinary: Sequence[str], k: int) -> None:
    """How near the training data are to every failing prompt, beside the same of ``ordinary`` ones: training prompts, whose first neighbour they are."""
    usual = [sum(values[1 : k + 1]) / max(1, len(values[1 : k + 1])) for values in near(ordinary, k + 1)] if ordinary else []
    for item, values in zip(evidence, near([item.case.prompt for item in evidence], k), strict=True):
        item.neighbours, item.usual = tuple(map(float, values)), tuple(map(float, usual))
