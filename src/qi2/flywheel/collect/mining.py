"""Bad cases among the model's pictures of training prompts: low reward, judges that disagree, words that were not drawn (report section 2.4).

Nothing here is held out: prompts come from the training split (`rlhf.prompts`), and one with a truth that training never shows is refused.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from qi2.core.errors import QI2Error
from qi2.core.rng import key
from qi2.data.world.checker import check, check_edit, read
from qi2.data.world.edits import Edit
from qi2.data.world.scene import Scene
from qi2.data.world.split import is_heldout
from qi2.flywheel.collect.painter import Painter
from qi2.flywheel.signals import Signal
from qi2.flywheel.store import SignalStore
from qi2.rlhf.prompts import EDIT, Prompt
from qi2.rlhf.scoring import CHECKER, EXACT, RolloutSample, Scorer

QUOTED = re.compile(r'"([^"]{1,200})"|“([^”]{1,200})”')
Reader = Callable[[Image.Image], Sequence[str]]
"""The lines of text that a picture shows."""


@dataclass(frozen=True)
class MiningSettings:
    """What counts as bad; all of it ours, the report names the sources of bad cases and no thresholds.

    A learned reward is low in the lowest ``low`` of its scores on a kind. Two judges disagree where one puts a picture among its best ``disagree`` and the
    other among its worst; the checker, where it has a truth, is right or wrong and disagrees with a reward that puts a wrong picture among its best.
    """

    per_prompt: int = 1
    low: float = 0.1
    disagree: float = 0.25
    least: int = 8  # pictures of a kind below which shares of them say nothing


@dataclass
class Drawn:
    """A picture, what judges say of it, and the reasons why it is a bad case."""

    sample: RolloutSample
    seed: int
    scores: dict[str, float] = field(default_factory=dict)
    said: dict[str, Any] = field(default_factory=dict)
    why: list[str] = field(default_factory=list)


def mine(
    prompts: Sequence[Prompt], painter: Painter, scorers: Mapping[str, Scorer], store: SignalStore, settings: MiningSettings, seed: int = 0,
    reader: Reader | None = None, provenance: Mapping[str, Any] | None = None,
) -> list[Signal]:  # fmt: skip
    """Draw prompts, judge the pictures, and return a signal for each bad one; its picture and references are kept in the store.

    ``scorers`` are those of reinforcement learning, `checker` and `exact` among them where wanted. ``reader`` reads words where no truth says them: the
    prompt's quoted texts must be in what it reads. Raises QI2Error where a prompt shows what is held out.
    """
    _check_split(prompts)
    drawn = _draw(prompts, painter, settings.per_prompt, seed)
    for name, scorer in scorers.items():
        for one, value in zip(drawn, scorer([one.sample for one in drawn]).tolist() if drawn else [], strict=True):
            if value == value:  # a reward that does not apply says NaN
                one.scores[name] = float(value)
    for one in drawn:
        _look(one, reader)
    for kind in dict.fromkeys(one.sample.prompt.kind for one in drawn):
        _compare([one for one in drawn if one.sample.prompt.kind == kind], settings)
    facts = {"seed": seed, "weights": painter.weights, **(provenance or {})}
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
            one.why.append("the checker finds " + ", ".join(name for name, value in verdict.items() if not value) + " wrong")
        if verdict.get("word") is False:
            one.said["words"] = {"wanted": [word.text for word in truth.words], "read": _read_world(picture, truth)}
    elif isinstance(truth, Edit):
        found = check_edit(picture, truth, one.sample.prompt.sources[0])
        one.said |= {"attributes": {"done": bool(found["done"])}, "kept_mae": float(found["kept_mae"])}
        if not found["all"]:
            one.why.append("the checker finds another picture than the edit's target")
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
        one.why.append("the text " + ", ".join(f'"{text}"' for text in missing) + " was not read")


def _squeezed(text: str) -> str:
    return "".join(text.split()).casefold()


def _compare(group: Sequence[Drawn], settings: MiningSettings) -> None:
    """Reasons that need the other pictures of a kind: low scores, and judges that disagree."""
    ranks: dict[str, dict[int, float]] = {}
    for name in sorted({name for one in group for name in one.scores} - {CHECKER, EXACT}):
        own = {i: one.scores[name] for i, one in enumerate(group) if name in one.scores}
        if len(own) >= settings.least:
            ranks[name] = _shares(own)
    for name, shares in ranks.items():
        for i, share in shares.items():
            if share <= settings.low:
                group[i].why.append(f"{name} is among its lowest {settings.low:.0%}")
            if share > 1 - settings.disagree and _wrong(group[i]):
                group[i].why.append(f"{name} puts it among its best, the checker finds it wrong")
            for other, theirs in ranks.items():
                if i in theirs and share > 1 - settings.disagree and theirs[i] <= settings.disagree:
                    group[i].why.append(f"{name} puts it among its best, {other} among its worst")


def _wrong(one: Drawn) -> bool:
    attributes = one.said.get("attributes", {})
    return bool(attributes) and not all(attributes.values())


def _shares(scores: Mapping[int, float]) -> dict[int, float]:
    """The share of scores that are not above each; equal scores have equal shares, so that one value for all is low for none."""
    values = np.array(list(scores.values()))
    return {i: float((values <= value).mean()) for i, value in scores.items()}


def _signal(one: Drawn, model: str, store: SignalStore, facts: Mapping[str, Any]) -> Signal:
    prompt = one.sample.prompt
    task = "ti2i" if prompt.kind.startswith(EDIT) or prompt.sources else "t2i"
    verdict = {**one.said, "reward": one.scores, "why": one.why}
    references = tuple(store.keep(image) for image in prompt.sources)
    truth = prompt.truth.to_json() if prompt.truth is not None else ""
    return Signal("mining", task, prompt.kind, prompt.text, model, verdict, truth, store.keep(one.sample.image), references, one.seed, facts)
