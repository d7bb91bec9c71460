"""Measures one sample's training pass of the networks without computing it: FakeTensorMode knows shapes and kernels, not data."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from qi2.models.config import MMDiTConfig
from qi2.models.mmdit import MMDiT
from qi2.models.sequence import EncodedPrompt, collate
from qi2.models.vae import VAE
from qi2.models.vae_config import VAEArchitecture
from qi2.plan.flops import Flops, SavedBytes, counted

PIXELS = 16  # of a latent token's side
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


@dataclass(frozen=True)
class Shape:
    """One sample: text tokens, references and the side in pixels of target and references."""

    text: int
    references: int
    side: int

    @property
    def tokens(self) -> int:
        return self.text + (self.references + 1) * (self.side // PIXELS) ** 2


@dataclass(frozen=True)
class Work:
    """One sample's pass: the condition's forward, the target's forward, the backward (with recomputation), and bytes kept meanwhile."""

    condition: Flops = Flops()
    forward: Flops = Flops()
    backward: Flops = Flops()
    saved: float = 0.0

    @property
    def training(self) -> Flops:
        return self.condition + self.forward + self.backward

    def extrapolated(self, deeper: "Work", steps: int) -> "Work":
        """This, plus ``steps`` times what ``deeper`` has more."""

        def grow(a: Any, b: Any) -> Any:
            return a + (b - a) * steps

        return Work(*(grow(getattr(self, name), getattr(deeper, name)) for name in ("condition", "forward", "backward", "saved")))


def parameters(build: Callable[[], nn.Module]) -> int:
    """Number of parameters of the module that ``build`` makes on the meta device."""
    with torch.device("meta"):
        return sum(p.numel() for p in build().parameters())


def in_dtype(build: Callable[[], nn.Module], dtype: str) -> Any:
    """The module built with its parameters in ``dtype``."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(DTYPES[dtype])
    try:
        return build()
    finally:
        torch.set_default_dtype(before)


def pass_of_mmdit(config: MMDiTConfig, shape: Shape, dtype: str, recompute: bool, mode: AbstractContextManager) -> Work:
    """One training pass of one sample at the config's own depth, inside ``mode`` (FakeTensorMode, or nothing: then it is computed)."""
    grid = shape.side // PIXELS
    with mode, torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
        model = in_dtype(lambda: MMDiT(replace(config, checkpointing=recompute)), dtype)
        model.config = replace(model.config, kernel="full")  # whole sequences are counted
        layout = [*[None] * shape.references, shape.text]
        references = [torch.zeros(config.latent_channels, grid, grid) for _ in range(shape.references)]
        condition = collate([EncodedPrompt(torch.zeros(shape.text, config.context_width), layout)], [references])
        noisy, t = torch.zeros(1, config.latent_channels, grid, grid), torch.zeros(1)
        with SavedBytes(model) as hooks:
            prefix, encode = counted(lambda: model.encode_condition(condition))
            velocity, forward = counted(lambda: model(noisy, t, prefix))
            loss = velocity.float().square().mean()
        saved = hooks.total
        _, backward = counted(loss.backward)
    return Work(encode, forward, backward, saved)


def pass_of_vae(architecture: VAEArchitecture, side: int, dtype: str, recompute: bool, refine: bool) -> Work:
    """One image's pass of the VAE; while it refines, the encoder is frozen. The perceptual network is not part of it."""
    with FakeTensorMode(), torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
        vae = in_dtype(lambda: VAE(replace(architecture, checkpointing=recompute)), dtype)
        images = torch.zeros(1, architecture.image_channels, side, side)
        with SavedBytes(vae) as hooks:
            with torch.set_grad_enabled(not refine):
                (mean, logvar), encode = counted(lambda: vae.posterior(images))
            latents: Tensor = mean + (0.5 * logvar).exp()
            output, forward = counted(lambda: vae.reconstruct(latents))
            loss = output.float().square().mean()
        saved = hooks.total
        _, backward = counted(loss.backward)
    return Work(encode, forward, backward, saved)


class Meter:
    """Measures networks of one dtype, each shape once. Depth is extrapolated: all blocks but the last are alike."""

    def __init__(self, mmdit: MMDiTConfig, vae: VAEArchitecture, dtype: str) -> None:
        self.config, self.architecture, self.dtype = mmdit, vae, dtype
        self.parameters = parameters(lambda: MMDiT(mmdit))
        self.vae_parameters = parameters(lambda: VAE(vae))
        self.block_parameters = parameters(lambda: MMDiT(mmdit).blocks[0])
        self._works: dict[Any, Work] = {}

    def mmdit(self, shape: Shape, recompute: bool) -> Work:
        """A sample's pass through the whole transformer."""
        layers = self.config.layers
        if layers < 3:
            return self._shallow(shape, recompute, layers)
        return self._shallow(shape, recompute, 2).extrapolated(self._shallow(shape, recompute, 3), layers - 2)

    def block(self, shape: Shape) -> float:
        """Bytes that one block keeps without recomputation: what is alive again while the backward pass recomputes it."""
        return self._shallow(shape, False, 3).saved - self._shallow(shape, False, 2).saved

    def vae(self, side: int, recompute: bool, refine: bool) -> Work:
        """An image's pass through the VAE."""
        key = ("vae", side, recompute, refine)
        if key not in self._works:
            self._works[key] = pass_of_vae(self.architecture, side, self.dtype, recompute, refine)
        return self._works[key]

    def _shallow(self, shape: Shape, recompute: bool, layers: int) -> Work:
        key = (shape, recompute, layers)
        if key not in self._works:
            self._works[key] = pass_of_mmdit(replace(self.config, layers=layers), shape, self.dtype, recompute, FakeTensorMode())
        return self._works[key]
