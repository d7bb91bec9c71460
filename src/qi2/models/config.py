"""Parameters of the networks and the sampler. Torch-free."""

import math
from dataclasses import dataclass, field

from qi2.core.errors import QI2Error

ATTENTIONS = ("block_causal", "full")
KERNELS = ("auto", "dense", "runs", "flex")


@dataclass
class MMDiTConfig:
    """The single-stream MMDiT. Defaults: a small model; ``conf/scale/report.yaml`` has the open 2.1 model's sizes.

    The report (section 3.2) fixes the parts (QK-RMSNorm, bias-free multiplicative modulation, SwiGLU, MSRoPE); width, depth
    and the block-causal layout with the condition at t = 0 are those of the open Qwen-Image-2.1.
    """

    layers: int = 12
    width: int = 768
    heads: int = 12
    mlp_ratio: float = 3.0
    latent_channels: int = 64
    context_width: int = 64  # width of the condition encoder's hidden states
    rope_axes: list[int] = field(default_factory=lambda: [8, 28, 28])  # frame, height, width; sums to width / heads
    rope_theta: float = 10000.0
    eps: float = 1e-6  # of all norms
    attention: str = "block_causal"  # "full": the condition reads the target and all of itself, as the report's figure may be read
    condition_at_zero: bool = True  # the condition is modulated at t = 0, whatever the target's time
    gates: bool = True  # tanh gates on both residual branches, as 2.1 has them; the report shows none
    shared_modulation: bool = True  # one projection of the time for all blocks; else one per block
    places: bool = False  # ours: image tokens also carry their row and column as sines, from which a small model learns placement sooner
    image_shortcut: bool = False  # ours: latents of the last reference also enter the target tokens at the same place
    copy_head: bool = False  # ours: target tokens may repeat reference tokens as they are (`qi2.models.copying`)
    checkpointing: bool = False  # recompute each block's activations in the backward pass: less memory for a third more work
    compile: bool = False  # torch.compile the blocks: pays on a GPU; on a CPU 1.15 times the speed for a minute of compiling
    kernel: str = "auto"  # of attention: see `qi2.models.attention`

    def check(self) -> None:
        """Raise QI2Error where the numbers do not fit together."""
        if self.width % self.heads or sum(self.rope_axes) != self.width // self.heads or any(d % 2 for d in self.rope_axes):
            raise QI2Error(f"mmdit.rope_axes {self.rope_axes} must be even and sum to width / heads = {self.width / self.heads:g}; change one of them")
        if self.copy_head and (self.attention != "block_causal" or not self.condition_at_zero):
            raise QI2Error("mmdit.copy_head reads a condition that knows neither time nor target; set attention: block_causal and condition_at_zero: true")
        if self.attention not in ATTENTIONS:
            raise QI2Error(f"mmdit.attention is {self.attention!r}; choose {' or '.join(ATTENTIONS)}")
        if self.kernel not in KERNELS:
            raise QI2Error(f"mmdit.kernel is {self.kernel!r}; choose {', '.join(KERNELS)}: the others of qi2.models.attention do not fit every batch")


@dataclass(frozen=True)
class Schedule:
    """Steps of the sampler from noise to data. ``shift`` moves them towards noise: t' = shift * t / (1 + (shift - 1) * t).

    resolution: (base_shift, max_shift, base_tokens, max_tokens) makes the shift e^mu, mu linear in the target's tokens and not clipped.
    terminal: where the last step starts; 0: where the shift puts it. base: times before the shift, first 1; empty: evenly spaced.
    """

    steps: int
    shift: float = 1.0
    resolution: tuple[float, float, int, int] | None = None
    terminal: float = 0.0
    base: tuple[float, ...] = ()

    def shift_of(self, tokens: int) -> float:
        """The shift of a target of so many latent tokens."""
        if self.resolution is None:
            return self.shift
        low, high, base, most = self.resolution
        return math.exp(low + (high - low) / (most - base) * (tokens - base))


@dataclass
class SamplerConfig:
    """Flow-matching Euler sampler; see `Schedule` for ``shift``, ``terminal`` and, with ``dynamic_shift``, the four numbers after it.

    A distilled student takes ``few_steps`` (report 4.3: 4) without guidance; its shift is ours. Defaults of the dynamic shift are
    those published with Qwen-Image-2.1 (which also has ``terminal: 0.02``).
    """

    steps: int = 40
    guidance: float = 4.0
    edit_guidance: float = 2.0
    guidance_rescale: float = 0.0  # 0..1: how much of the guided velocity's spread is brought back to the conditional one's
    guidance_interval: list[float] = field(default_factory=lambda: [0.0, 1.0])  # times at which guidance is used
    shift: float = 1.0
    dynamic_shift: bool = False
    base_shift: float = 0.5
    max_shift: float = 0.9
    base_tokens: int = 256
    max_tokens: int = 8192
    terminal: float = 0.0
    sigmas: list[float] = field(default_factory=list)  # the steps' times before the shift, where they are not evenly spaced; they decide ``steps``
    few_steps: int = 4
    few_shift: float = 3.0

    def schedule(self, steps: int | None = None) -> Schedule:
        """Of a many-step model."""
        resolution = (self.base_shift, self.max_shift, self.base_tokens, self.max_tokens) if self.dynamic_shift else None
        base = () if steps else tuple(self.sigmas)
        return Schedule(len(base) or steps or self.steps, self.shift, resolution, self.terminal, base)

    def few(self, steps: int | None = None) -> Schedule:
        """Of a distilled student."""
        return Schedule(steps or self.few_steps, self.few_shift)


@dataclass
class LoRAConfig:
    """Low-rank adapters instead of all weights. ``rank`` 0: none. ``path``: an adapter to go on from."""

    rank: int = 0
    alpha: float = 0.0  # the adapter counts alpha / rank; 0: as rank, thus 1
    targets: list[str] = field(default_factory=lambda: ["to_q", "to_k", "to_v", "to_out"])  # layers of the blocks; also proj, gate, out
    path: str = ""
