"""Bad cases among the model's pictures of training prompts: low reward, judges that disagree, words that were not drawn (report section 2.4).

Nothing here is held out: prompts come from the training split (`rlhf.prompts`), and one with a truth that training never shows is refused.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from qi2.core.errors import QI2Error
from qi2.core.progress import Progress
from qi2.core.rng import key
from qi2.data.world.checker import check, check_edit, read
from qi2.data.world.edits import Edit
from qi2.data.world.scene import Scene
from qi2.data.world.split import is_heldout
from qi2.flywheel.collect.painter import Painter
from qi2.flywheel.config import MiningConfig
from qi2.flywheel.signals import Signal
from qi2.flywheel.store import SignalStore
from qi2.rlhf.prompts import EDIT, Prompt
from qi2.rlhf.scoring import CHECKER, EXACT, RolloutSample, Scorer

QUOTED = re.compile(r'"([^"]{1,200})"|“([^”]{1,200})”')
Reader = Callable[[Image.Image], Sequence[str]]
"""The lines of text that a picture shows."""


CHECKED, LOW, DISAGREE, LIKED, WORDS = "checker", "low", "disagree", "liked", "words"  # the tests that find bad cases


@dataclass
class Drawn:
    """A picture, what judges say of it, and the reasons why it is a bad case."""

    sample: RolloutSample
    seed: int
    scores: dict[str, float] = field(default_factory=dict)
    said: dict[str, Any] = field(default_factory=dict)
    why: list[str] = field(default_factory=list)
    tests: list[str] = field(default_factory=list)  # that found it, each once

    def blame(self, test: str, why: str) -> None:
        """One more reason why it is a bad case."""
        self.why.append(why)
        self.tests += [test] if test not in self.tests else []

    @property
    def group(self) -> str:
        """Task and kind, such as ``t2i/count``."""
        return f"{task_of(self.sample.prompt)}/{self.sample.prompt.kind}"


def mine(
    prompts: Sequence[Prompt], painter: Painter, scorers: Mapping[str, Scorer], store: SignalStore, settings: MiningConfig, seed: int = 0,
    reader: Reader | None = None, provenance: Mapping[str, Any] | None = None,
) -> list[Signal]:  # fmt: skip
    """Draw prompts, judge the pictures, and return a signal for each bad one; its picture and references are kept in the store.

    ``scorers`` are those of reinforcement learning, `checker` and `exact` among them where wanted. ``reader`` reads words where no truth says them: the
    prompt's quoted texts must be in what it reads. A signal's provenance says how many pictures were ``tried`` of every kind.
    Raises QI2Error where a prompt shows what is held out.
    """
    _check_split(prompts)
    drawn = _draw(prompts, painter, settings.pictures, seed)
    for name, scorer in scorers.items():
        for one, value in zip(drawn, scorer([one.sample for one in drawn]).tolist() if drawn else [], strict=True):
            if value == value:  # a reward that does not apply says NaN
                one.scores[name] = float(value)
    with Progress("mine: look", len(drawn), "pictures") as progress:
        for one in drawn:
            _look(one, reader)
            progress.update()
    for kind in dict.fromkeys(one.sample.prompt.kind for one in drawn):
        _compare([one for one in drawn if one.sample.prompt.kind == kind], settings)
    facts = {"seed": seed, "weights": painter.weights, "tried": dict(Counter(one.group for one in drawn)), **(provenance or {})}
    return [_signal(one, painter.name, store, facts) for one in drawn if one.why]


def _check_split(prompts: Sequence[Prompt]) -> None:
    for prompt in prompts:
        truth = prompt.truth
        scenes = [truth] if isinstance(truth, Scene) else [*truth.references, truth.target] if isinstance(truth, Edit) else []
        if any(is_heldout(scene) for scene in scenes):
            raise QI2Error(f"the prompt {prompt.text!r} shows what is held out, so nothing may be mined from it; draw prompts of the split train")


def _draw(prompts: Sequence[Prompt], painter: Painter, each: int, seed: int) -> list[Drawn]:
    """``each`` pictures per prompt, T2I and edits apart; noise belongs to the prompt's text and its place among equal ones."""
    found: list[Drawn] = []
    for edits in (False, True):
        own = [prompt for prompt in prompts for _ in range(each) if bool(prompt.sources) == edits]
        seen: dict[str, int] = {}
        seeds = []
        for prompt in own:
            seen[prompt.text] = seen.get(prompt.text, -1) + 1
            seeds.append(key(seed, f"flywheel/mining/{prompt.kind}/{prompt.text}", seen[prompt.text]))
        pictures = painter([prompt.text for prompt in own], [prompt.sources for prompt in own], seeds)
        found += [Drawn(RolloutSample(prompt, picture), noise) for prompt, picture, noise in zip(own, pictures, seeds, strict=True)]
    return found


def _look(one: Drawn, reader: Reader | None) -> None:
    """What the truth says, and which words are missing."""
    truth, picture = one.sample.prompt.truth, one.sample.image
    if isinstance(truth, Scene):
        verdict = {name: bool(value) for name, value in check(picture, truth).items()}
        right = verdict.pop("all")
        one.said["attributes"] = verdict
        if not right:
            one.blame(CHECKED, "the checker finds " + ", ".join(name for name, value in verdict.items() if not value) + " wrong")
        if verdict.get("word") is False:
            one.said["words"] = {"wanted": [word.text for word in truth.words], "read": _read_world(picture, truth)}
    elif isinstance(truth, Edit):
        found = check_edit(picture, truth, one.sample.prompt.sources[0])
        one.said |= {"attributes": {"done": bool(found["done"])}, "kept_mae": float(found["kept_mae"])}
        if not found["all"]:
            one.blame(CHECKED, "the checker finds another picture than the edit's target")
    elif reader is not None:
        _words(one, reader)


def _read_world(picture: Image.Image, scene: Scene) -> list[str]:
    return read(picture, scene.grid, scene.texture, scene.outlined).words()


def _words(one: Drawn, reader: Reader) -> None:
    """Quoted texts that were not read: compared without spaces and case, as OCR splits lines and cannot tell some letters' case."""
    wanted = ["".join(match.groups(default="")) for match in QUOTED.finditer(one.sample.prompt.text)]
    if not wanted:
        return
    lines = list(reader(one.sample.image))
    shown = _squeezed("".join(lines))
    missing = [text for text in wanted if _squeezed(text) not in shown]
    if missing:
        one.said["words"] = {"wanted": wanted, "read": lines}
        one.blame(WORDS, "the text " + ", ".join(f'"{text}"' for text in missing) + " was not read")


def _squeezed(text: str) -> str:
    return "".join(text.split()).casefold()


def _compare(group: Sequence[Drawn], settings: MiningConfig) -> None:
    """Reasons that need the other pictures of a kind: low scores, and judges that disagree."""
    ranks: dict[str, dict[int, float]] = {}
    for name in sorted({name for one in group for name in one.scores} - {CHECKER, EXACT}):
        own = {i: one.scores[name] for i, one in enumerate(group) if name in one.scores}
        if len(own) >= settings.least:
            ranks[name] = _shares(own)
    for name, shares in ranks.items():
        for i, share in shares.items():
            if share <= settings.low:
                group[i].blame(LOW, f"{name} is among its lowest {settings.low:.0%}")
            if share > 1 - settings.disagree and _wrong(group[i]):
                group[i].blame(LIKED, f"{name} puts it among its best, the checker finds it wrong")
            for other, theirs in ranks.items():
                if i in theirs and share > 1 - settings.disagree and theirs[i] <= settings.disagree:
                    group[i].blame(DISAGREE, f"{name} puts it among its best, {other} among its worst")


def _wrong(one: Drawn) -> bool:
    attributes = one.said.get("attributes", {})
    return bool(attributes) and not all(attributes.values())


def _shares(scores: Mapping[int, float]) -> dict[int, float]:
    """The share of scores that are not above each; equal scores have equal shares, so that one value for all is low for none."""
    values = np.array(list(scores.values()))
    return {i: float((values <= value).mean()) for i, value in scores.items()}


def task_of(prompt: Prompt) -> str:
    """``ti2i`` for an edit."""
    return "ti2i" if prompt.kind.startswith(EDIT) or prompt.sources else "t2i"


def _signal(one: Drawn, model: str, store: SignalStore, facts: Mapping[str, Any]) -> Signal:
    prompt = one.sample.prompt
    verdict = {**one.said, "reward": one.scores, "why": one.why, "tests": one.tests}
    references = tuple(store.keep(image) for image in prompt.sources)
    truth = prompt.truth.to_json() if prompt.truth is not None else ""
    return Signal("mining", task_of(prompt), prompt.kind, prompt.text, model, verdict, truth, store.keep(one.sample.image), references, one.seed, facts)
