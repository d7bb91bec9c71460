"""A reward model: the VLM's vision tower, and a small head that compares what it sees with the prompt's hidden states.

As in ImageReward, text attends to the picture through cross-attention; here it is the picture's slots that look things up in the
prompt. The language model is never trained: it reads every prompt once (with the source images, for an edit), and its hidden states are
kept. What is trained is the head and, as ``tower`` says, a copy of the whole tower, adapters on it, or nothing of it. For an edit the slots of the source stand
beside those of the picture, with their difference. Several pictures of one prompt are scored at once and share its keys and values.
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from qi2.config import load
from qi2.core.errors import QI2Error
from qi2.models.storage import CONFIG, WEIGHTS
from qi2.objectives.calibration import Calibration
from qi2.rewards.config import NEEDS, TIES, TOWERS, RewardArchitecture
from qi2.rewards.tower import ADAPTER, VisionTower, add_adapters

TOWER = "tower."
LEAST, MOST = -5.0, 3.0  # of a score's log-deviation
START_TIE = 0.5


@dataclass(frozen=True)
class Scores:
    """Scores (B, R) of R pictures per prompt; with ``deviation`` of the same shape they are normal distributions."""

    mean: Tensor
    deviation: Tensor | None = None

    def differences(self) -> tuple[Tensor, Tensor | None]:
        """First minus second (B,), and its deviation."""
        spread = None if self.deviation is None else self.deviation[:, :2].square().sum(1).sqrt()
        return self.mean[:, 0] - self.mean[:, 1], spread


class HeadBlock(nn.Module):
    """Self-attention within a picture, cross-attention to the prompt (optional), SwiGLU; pre-normalised, without biases."""

    def __init__(self, width: int, heads: int, prompt: bool) -> None:
        super().__init__()
        self.heads, self.prompt = heads, prompt
        self.norm1, self.norm2, self.norm3 = nn.RMSNorm(width), nn.RMSNorm(width), nn.RMSNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        if prompt:
            self.query, self.key_value = nn.Linear(width, width, bias=False), nn.Linear(width, 2 * width, bias=False)
            self.out_prompt = nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(2 * width, width, bias=False)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.down.weight)

    def forward(self, x: Tensor, prompt: Tensor | None, mask: Tensor | None) -> Tensor:
        """x (B, R, S, C); prompt (B, L, C) with mask (B, L), True where there is a token."""
        x = x + self.out(self._attend(*self.qkv(self.norm1(x)).flatten(0, 1).chunk(3, -1)).view_as(x))
        if self.prompt:
            assert prompt is not None and mask is not None
            key, value = self.key_value(prompt).chunk(2, -1)
            queries = self.query(self.norm2(x)).flatten(1, 2)
            x = x + self.out_prompt(self._attend(queries, key, value, mask[:, None, None])).view_as(x)
        value, gate = self.up(self.norm3(x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * value)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


class RewardHead(nn.Module):
    """Slots of R pictures per prompt to their scores."""

    def __init__(self, config: RewardArchitecture, slot_width: int, prompt_width: int) -> None:
        super().__init__()
        self.needs = needs = NEEDS[config.dimension]
        self.slot_norm = nn.RMSNorm(slot_width)
        self.slots = nn.Linear((3 if needs.source else 1) * slot_width, config.width, bias=False)
        if needs.prompt:
            self.prompt_norm, self.prompt = nn.RMSNorm(prompt_width), nn.Linear(prompt_width, config.width, bias=False)
        self.blocks = nn.ModuleList(HeadBlock(config.width, config.heads, needs.prompt) for _ in range(config.layers))
        self.norm, self.score = nn.RMSNorm(config.width), nn.Linear(config.width, 2 if config.uncertain else 1, bias=False)
        nn.init.zeros_(self.score.weight)

    def forward(self, pictures: Tensor, source: Tensor | None, prompt: Tensor | None, mask: Tensor | None) -> Scores:
        """pictures (B, R, S, F), source (B, S, F), prompt (B, L, H) with mask (B, L); what the dimension does not need is ignored."""
        x = self.slot_norm(pictures)
        if self.needs.source:
            assert source is not None
            before = self.slot_norm(source)[:, None].expand_as(x)
            x = torch.cat([x, before, x - before], -1)
        x = self.slots(x)
        read = self.prompt(self.prompt_norm(prompt)) if self.needs.prompt else None
        for block in self.blocks:
            x = block(x, read, mask)
        found = self.score(self.norm(x).mean(2))
        return Scores(found[..., 0], found[..., 1].clamp(LEAST, MOST).exp() if found.shape[-1] == 2 else None)


class RewardModel(nn.Module):
    """Tower and head. Scores are raw; ``calibrated`` puts them on the scale of all rewards."""

    def __init__(self, config: RewardArchitecture, visual: Any, prompt_width: int, tie: float = START_TIE) -> None:
        """``visual`` and ``prompt_width`` are the VLM's; ``tie`` is the raw scores' logit of a tie, at first or (``ties: set``) for good."""
        super().__init__()
        for name, known in (("tower", TOWERS), ("ties", TIES)):
            if getattr(config, name) not in known:
                raise QI2Error(f"rewards.{name} {getattr(config, name)!r} is not known; choose one of {', '.join(known)}")
        self.config, self.needs = config, NEEDS[config.dimension]
        self.tower = VisionTower(visual).requires_grad_(config.tower == "train")
        if config.tower == "lora":
            add_adapters(self.tower, config.lora)
        self.head = RewardHead(config, self.tower.width, prompt_width)
        self.log_tie = nn.Parameter(torch.tensor(math.log(tie)), requires_grad=config.ties == "learned")

    @property
    def tie(self) -> Tensor | None:
        """The raw scores' logit of a tie; None where a tie counts as half a win for either side."""
        return None if self.config.ties == "half" else self.log_tie.exp()

    def look(self, images: Tensor) -> Tensor:
        """Slots (..., S, F) of images (..., 3, H, W) in [-1, 1]."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.config.tower != "frozen"):
            slots = self.tower(images.flatten(0, -4))
        return slots.unflatten(0, images.shape[:-3])

    def forward(self, images: Tensor, source: Tensor | None = None, prompt: Tensor | None = None, mask: Tensor | None = None) -> Scores:
        """Raw scores (B, R) of R images (B, R, 3, H, W) per prompt; source (B, 3, H, W)."""
        before = self.look(source) if self.needs.source and source is not None else None
        found: Scores = self.head(self.look(images), before, prompt, mask)
        return found

    @property
    def calibration(self) -> Calibration:
        """What turns raw differences into probabilities."""
        return Calibration(self.config.temperature, self.config.tie, self.config.sharpness, self.config.mistakes)

    def calibrated(self, scores: Tensor) -> Tensor:
        """Scores on the scale of all rewards: a difference of them is Bradley-Terry's logit, 0 the mean of the reference pictures."""
        return (scores - self.config.mean) / self.config.temperature

    def _of_the_vlm(self, name: str) -> bool:
        """Whether a weight is the VLM's own."""
        return self.config.tower != "train" and name.startswith(TOWER) and ADAPTER not in name

    def save(self, folder: Path) -> None:
        """Write config.json and model.safetensors; of a tower that was not trained only the adapters, because the VLM has the rest."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG).write_text(json.dumps(asdict(self.config), indent=1))
        kept = {name: tensor for name, tensor in self.state_dict().items() if not self._of_the_vlm(name)}
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in kept.items()}, folder / WEIGHTS)

    @classmethod
    def load(cls, folder: Path, visual: Any, prompt_width: int) -> "RewardModel":
        """Read a folder written by `save`, in evaluation mode; ``visual`` and ``prompt_width`` are the VLM's.

        Raises QI2Error where the folder is incomplete or was made with another VLM.
        """
        if not (folder / CONFIG).exists() or not (folder / WEIGHTS).exists():
            raise QI2Error(f"{folder} holds no reward model ({CONFIG}, {WEIGHTS}); run stage `rewards`, or give another path")
        model = cls(load(RewardArchitecture, [json.loads((folder / CONFIG).read_text())]), visual, prompt_width)
        try:
            missing, _ = model.load_state_dict(load_file(folder / WEIGHTS), strict=False)
        except RuntimeError as error:
            raise QI2Error(f"{folder / WEIGHTS} was made with another VLM: {str(error).splitlines()[-1].strip()}") from error
        if own := [name for name in missing if not model._of_the_vlm(name)]:
            raise QI2Error(f"{folder / WEIGHTS} lacks {own[0]}; run stage `rewards` again")
        return model.eval().requires_grad_(False)
