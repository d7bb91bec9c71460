"""Parameters of the networks and the sampler. Torch-free."""

from dataclasses import dataclass, field

from qi2.core.errors import QI2Error

ATTENTIONS = ("block_causal", "full")


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
    checkpointing: bool = False  # recompute each block's activations in the backward pass: less memory for a third more work
    kernel: str = "auto"  # of attention: see `qi2.models.attention`

    def check(self) -> None:
        """Raise QI2Error where the numbers do not fit together."""
        if self.width % self.heads or sum(self.rope_axes) != self.width // self.heads or any(d % 2 for d in self.rope_axes):
            raise QI2Error(f"mmdit.rope_axes {self.rope_axes} must be even and sum to width / heads = {self.width / self.heads:g}; change one of them")
        if self.attention not in ATTENTIONS:
            raise QI2Error(f"mmdit.attention is {self.attention!r}; choose {' or '.join(ATTENTIONS)}")


@dataclass
class SamplerConfig:
    """Flow-matching Euler sampler. ``shift`` moves steps towards noise: sigma' = shift * sigma / (1 + (shift - 1) * sigma).

    A distilled student takes ``few_steps`` (report 4.3: 4) without guidance; its shift is ours.
    """

    steps: int = 40
    guidance: float = 4.0
    edit_guidance: float = 2.0
    shift: float = 1.0
    few_steps: int = 4
    few_shift: float = 3.0
