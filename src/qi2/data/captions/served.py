"""A captioner behind a URL: any vision-language model that a server of chat completions offers."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from PIL import Image

from qi2.core.errors import QI2Error
from qi2.core.served import ServedVLM
from qi2.data.captions.captioner import Answer, Request
from qi2.data.captions.config import CaptionConfig


class ServedCaptioner:
    """Asks for every caption alone, several at a time; pictures above ``max_pixels`` are sent smaller."""

    reads_pictures = True

    def __init__(self, vlm: ServedVLM, config: CaptionConfig) -> None:
        self.vlm, self.config, self.identity = vlm, config, vlm.identity

    def answer(self, requests: Sequence[Request], seed: int | None = None) -> list[Answer]:
        """Raises QI2Error where the server does not answer."""
        sampling = {} if seed is None else {"temperature": self.config.temperature, "seed": seed % 2**31}
        with ThreadPoolExecutor(self.vlm.parallel) as pool:
            return list(pool.map(lambda request: self._answer(request, sampling), requests))

    def _answer(self, request: Request, sampling: dict[str, float]) -> Answer:
        if request.image is None:
            raise QI2Error(f"row {request.id} has no picture to be captioned; a served captioner reads pictures")
        return Answer(*self.vlm.reply(request.prompt, [self._fitted(request.image)], self.config.max_tokens, **sampling))

    def _fitted(self, image: Image.Image) -> Image.Image:
        factor = (self.config.max_pixels / (image.width * image.height)) ** 0.5
        return image if factor >= 1 else image.resize((max(1, int(image.width * factor)), max(1, int(image.height * factor))), Image.Resampling.BICUBIC)
