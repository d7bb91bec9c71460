"""Other wordings of a failing prompt: the world's own phrasings of the same truth, a language model elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qi2.core.rng import numpy_rng
from qi2.data.world.captions import all_captions
from qi2.data.world.edits import Edit, all_instructions
from qi2.data.world.scene import Scene
from qi2.flywheel.attribution.cases import Case

ASK = "Say the following image prompt in other words. Keep its meaning and every quoted text. Answer with the new prompt alone.\n\n{prompt}"


@dataclass
class WorldWordings:
    """Phrasings of the truth that training uses, ``n`` per case, chosen by the case; cases without a truth go to ``other`` where it is given."""

    n: int
    seed: int
    other: Any = None

    def __call__(self, cases: Sequence[Case]) -> list[list[str]]:
        unknown = [case for case in cases if case.truth is None]
        said = dict(zip([case.id for case in unknown], self.other(unknown) if self.other and unknown else [[] for _ in unknown], strict=True))
        return [said[case.id] if case.truth is None else self._of_truth(case) for case in cases]

    def _of_truth(self, case: Case) -> list[str]:
        draw = numpy_rng(self.seed, f"flywheel/wording/{case.prompt}")
        truth = case.truth
        known = all_captions(truth) if isinstance(truth, Scene) else all_instructions(truth) if isinstance(truth, Edit) else []
        others = [text for text in dict.fromkeys(known) if text != case.prompt]
        return [others[int(i)] for i in draw.permutation(len(others))[: self.n]]


class LanguageModel:
    """A chat model of transformers as paraphraser, loaded at its first use."""

    def __init__(self, path: str, n: int, seed: int, device: str = "cpu") -> None:
        self.path, self.n, self.seed, self.device = path, n, seed, device
        self._model: Any = None

    def __call__(self, cases: Sequence[Case]) -> list[list[str]]:
        import torch

        torch.manual_seed(self.seed)
        return [self._reword(case.prompt) for case in cases]

    def _reword(self, prompt: str) -> list[str]:
        tokenizer, model = self._loaded()
        text = tokenizer.apply_chat_template([{"role": "user", "content": ASK.format(prompt=prompt)}], tokenize=False, add_generation_prompt=True)
        given = tokenizer(text, return_tensors="pt").to(self.device)
        length = given["input_ids"].shape[1]
        drawn = model.generate(**given, do_sample=True, num_return_sequences=self.n, max_new_tokens=2 * length + 32)
        lines = [tokenizer.decode(row[length:], skip_special_tokens=True).strip().split("\n")[0].strip() for row in drawn]
        return [line for line in dict.fromkeys(lines) if line and line != prompt]

    def _loaded(self) -> Any:
        if self._model is None:
            from transformers import AutoModelForCausalLM, AutoTokenizer

            model: Any = AutoModelForCausalLM.from_pretrained(self.path)
            self._model = AutoTokenizer.from_pretrained(self.path), model.to(self.device).eval()
        return self._model
