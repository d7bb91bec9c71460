"""Parameters of the networks and the sampler. Torch-free."""

from dataclasses import dataclass, field


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
    gates: bool = True  # tanh gates on both residual branches, as 2.1 has them; the report shows none
    places: bool = False  # ours: image tokens also carry their row and column as sines, from which a small model learns placement sooner
    image_shortcut: bool = False  # ours: latents of the last reference also enter the target tokens at the same place


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
