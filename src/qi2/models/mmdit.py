"""The single-stream MMDiT (report section 3.2, Figure 8), with the block-causal layout of the open Qwen-Image-2.1.

One set of blocks processes text, reference images and the target. By default the condition (text and references, interleaved) is
modulated at t = 0 and never sees the target, so its keys and values do not depend on t: they are computed once per sample
(`encode_condition`) and read by every target token (`forward`). Training and sampling use the same two calls.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from qi2.models import rope
from qi2.models.attention import KeysValues, Sight
from qi2.models.config import MMDiTConfig
from qi2.models.copying import CopyHead, compose
from qi2.models.mmdit_blocks import Block, Modulation, TextProjection, TimestepEmbedding, scaled_layer_norm
from qi2.models.ragged import Ragged
from qi2.models.sequence import Condition, Copyable, Prefix, Targets
from qi2.models.storage import load_network, save_network

ORIGIN = "diffusers.json"


def without_effect(module: nn.Module) -> Tensor:
    """Zero, through which gradients of zero reach the module's parameters."""
    return 0 * torch.stack([p.sum() for p in module.parameters()]).sum()


class MMDiT(nn.Module):
    """Predicts the velocity of target latents under a condition of text and reference images.

    ``origin``: the config that the weights came with from elsewhere, so that the same can be written again.
    """

    def __init__(self, config: MMDiTConfig) -> None:
        super().__init__()
        config.check()
        self.config, self.origin = config, cast(dict[str, Any], {})
        width = config.width
        self.img_in = nn.Linear(config.latent_channels, width, bias=False)
        self.txt_in = TextProjection(config.context_width, width, config.eps)
        self.time_in = TimestepEmbedding(width)
        self.modulation = nn.Linear(width, 4 * width, bias=False) if config.shared_modulation else None
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm_out = nn.Linear(width, width, bias=False)
        self.proj_out = nn.Linear(width, config.latent_channels, bias=False)
        if config.image_shortcut:
            self.source_in = nn.Linear(config.latent_channels, width, bias=False)
            nn.init.zeros_(self.source_in.weight)
        if config.places:
            self.place_in = nn.Linear(4 * rope.PLACE_WAVES, width, bias=False)
        if config.copy_head:
            self.copy_head = CopyHead(width, config.heads)
        self.freqs = rope.frequencies(config.rope_axes, config.rope_theta)
        self._start_quietly()

    def _start_quietly(self) -> None:
        """Modulation starts near one and the output at zero, so that the first steps are stable (ours)."""
        for layer in [self.modulation, *(cast(Block, block).modulation for block in self.blocks), self.norm_out]:
            if layer is not None:
                nn.init.normal_(layer.weight, std=0.02)
        nn.init.zeros_(self.proj_out.weight)

    def run_like(self, config: MMDiTConfig) -> "MMDiT":
        """Take from ``config`` how to compute (checkpointing, compilation, attention's kernel), not what; in place."""
        self.config = replace(self.config, checkpointing=config.checkpointing, compile=config.compile, kernel=config.kernel)
        for block in self.blocks:
            cast(Block, block).compiled = config.compile
        return self

    @property
    def caches(self) -> bool:
        """Whether the condition depends neither on time nor on the target, so that its keys and values are computed once."""
        return self.config.attention == "block_causal" and self.config.condition_at_zero

    def encode_condition(self, condition: Condition) -> Prefix:
        """What the target reads: the condition's keys and values at every layer with modulation at t = 0, where it `caches`."""
        ragged, device = condition.ragged, self.proj_out.weight.device
        positions = ragged.tokens(condition.positions).to(device)
        x = self._embed_condition(condition, positions)
        prefix = Prefix(ragged, condition.target_start.to(device), condition.sources)
        until = ragged.pad(ragged.tokens(condition.until))
        if not self.caches:
            prefix.tokens, prefix.positions, prefix.until = ragged.pad(x), ragged.pad(positions), until
            return prefix
        sight, rotation = Sight.within(ragged, until, device, self.config.kernel), self._rotation(positions)
        modulations = self._modulations(self._embed_time(torch.zeros(1)), ragged.spread)
        for block, modulation in zip(self.blocks[:-1], modulations, strict=False):
            x, k, v = self._run(block, x, modulation, rotation, sight)
            prefix.keys.append(ragged.pad(k))
            prefix.values.append(ragged.pad(v))
        if self.config.copy_head and len(condition.latents):
            prefix.copyable = self._copyable(x, condition, rotation)
        last = cast(Block, self.blocks[-1])  # nothing reads what it would make of the condition, beyond keys and values
        k, v = last.keys_values(x, modulations[-1], rotation)
        prefix.keys.append(ragged.pad(k))
        prefix.values.append(ragged.pad(v))
        return prefix

    def _copyable(self, x: Tensor, condition: Condition, rotation: Tensor) -> Copyable:
        ragged, device = condition.ragged, x.device
        nothing = condition.latents.new_zeros(len(condition.text), condition.latents.shape[1])
        latents = torch.cat([nothing, condition.latents])[condition.order]
        keys = self.copy_head.keys(scaled_layer_norm(x, x.new_ones(x.shape[-1]), self.config.eps), rotation)
        present = ragged.pad(ragged.tokens(condition.is_image)) & ragged.valid
        return Copyable(ragged.pad(ragged.tokens(latents)).to(x), ragged.pad(keys), present.to(device))

    def _embed_condition(self, condition: Condition, positions: Tensor) -> Tensor:
        weight = self.proj_out.weight
        parts = [self.txt_in(condition.text.to(weight))]
        if len(condition.latents):
            parts.append(self.img_in(condition.latents.to(weight)))
        x = condition.ragged.tokens(torch.cat(parts)[condition.order.to(weight.device)])
        if self.config.places:
            is_image = condition.ragged.tokens(condition.is_image.to(weight.device))[..., None]
            x = x + is_image * self.place_in(rope.place_features(positions).to(weight))
        return x

    def learn(
        self, condition: Condition, x_t: Tensor | list[Tensor], t: Tensor, after: int = 0, elsewhere: bool = False
    ) -> tuple[Tensor, Tensor | None, Tensor | None, Copyable | None]:
        """`encode_condition` and `trace` in one call, for training: what `trace` gives, and what could be copied.

        Sharded weights are reduced as their gradients come, by all processes alike. So nothing with a gradient may enter the whole network from
        outside, as a prefix would; and where the samples of some process have references, ``elsewhere``, all must use all weights.
        """
        prefix = MMDiT.encode_condition(self, condition)
        prefix.elsewhere = elsewhere
        return *MMDiT.trace(self, x_t, t, prefix, after), prefix.copyable and prefix.copyable.fixed

    def forward(self, x_t: Tensor | list[Tensor], t: Tensor, prefix: Prefix) -> Tensor | list[Tensor]:
        """Velocity of noisy target latents at times t (B,), or (1,) for all, in [0, 1].

        x_t: (B, 64, h, w), or a list of (64, h, w) of any sizes; the velocity has the same form, in the dtype of x_t.
        """
        targets = Targets(x_t)
        drawn, choice = self.predict(x_t, t, prefix)
        if choice is None or prefix.copyable is None:
            return targets.images(drawn.to(x_t[0].dtype))
        own = targets.ragged
        noisy = own.pad(targets.tokens(x_t).to(drawn))
        v = compose(own.pad(drawn), noisy, t, choice.detach(), prefix.copyable.latents)  # the head learns from its own loss alone
        return targets.images(own.unpad(v).to(x_t[0].dtype))

    def predict(self, x_t: Tensor | list[Tensor], t: Tensor, prefix: Prefix) -> tuple[Tensor, Tensor | None]:
        """What `forward` is made of: the drawn velocity as tokens (..., 64) and, where references may be copied, the `CopyHead`'s choice."""
        drawn, choice, _ = self.trace(x_t, t, prefix)
        return drawn, choice

    def trace(self, x_t: Tensor | list[Tensor], t: Tensor, prefix: Prefix, after: int = 0) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """What `predict` gives, and the target's hidden states (..., width) after so many blocks; none after 0."""
        targets, weight = Targets(x_t), self.proj_out.weight
        positions = targets.positions(prefix.target_start)
        x = self.img_in(targets.tokens(x_t).to(weight))
        if self.config.places:
            x = x + self.place_in(rope.place_features(positions).to(weight))
        if self.config.image_shortcut and (prefix.has_sources or prefix.elsewhere):
            x = x + self.source_in(targets.like_sources(prefix.sources).to(weight))
        embedding = self._embed_time(t)
        x, hidden = (self._over_cache if self.caches else self._joint)(x, positions, embedding, targets.ragged, prefix, after)
        scale = targets.ragged.spread(1 + self.norm_out(embedding))
        x = scaled_layer_norm(x, scale, self.config.eps)
        if not self.config.copy_head or prefix.copyable is None:
            drawn = self.proj_out(x)
            if self.config.copy_head and prefix.elsewhere:
                drawn = drawn + without_effect(self.copy_head)
            return drawn, None, hidden
        own = targets.ragged
        return self.proj_out(x), self.copy_head(own.pad(x), own.pad(self._rotation(positions)), prefix.copyable), hidden

    def _over_cache(self, x: Tensor, positions: Tensor, embedding: Tensor, own: Ragged, prefix: Prefix, after: int) -> tuple[Tensor, Tensor | None]:
        """The target through all blocks, beside the condition's keys and values; also as it is after ``after`` of them."""
        sight, rotation = Sight.over(own, prefix.ragged, x.device, self.config.kernel), self._rotation(positions)
        modulations = self._modulations(embedding, own.spread)
        hidden = None
        for i, (block, modulation, k, v) in enumerate(zip(self.blocks, modulations, prefix.keys, prefix.values, strict=True), 1):
            x, _, _ = self._run(block, x, modulation, rotation, sight, (k, v))
            hidden = x if i == after else hidden
        return x, hidden

    def _joint(self, x: Tensor, positions: Tensor, embedding: Tensor, own: Ragged, prefix: Prefix, after: int) -> tuple[Tensor, Tensor | None]:
        """Condition and target through all blocks as one sequence, where the condition depends on time or reads the target."""
        assert prefix.tokens is not None and prefix.positions is not None and prefix.until is not None
        past = prefix.ragged
        both = Ragged([a + b for a, b in zip(past.lengths, own.lengths, strict=True)])
        is_target = (torch.arange(both.longest) >= torch.tensor(past.lengths)[:, None])[both.valid]
        order = torch.where(is_target, past.total + is_target.cumsum(0) - 1, (~is_target).cumsum(0) - 1).to(x.device)

        def merge(condition: Tensor, target: Tensor) -> Tensor:
            return both.tokens(torch.cat([past.unpad(condition).flatten(0, 1), target.flatten(0, 1)])[order])

        row = both.sample
        if self.config.condition_at_zero:
            embedding = torch.cat([embedding.expand(both.batch, -1), self._embed_time(torch.zeros(1))])
            row = torch.where(is_target, row, both.batch)
        elif len(embedding) == 1:
            row = torch.zeros_like(row)
        until = torch.tensor(both.lengths)[:, None].repeat(1, both.longest)
        if self.config.attention == "block_causal":
            until[:, : past.longest] = torch.where(past.valid, prefix.until, until[:, : past.longest])
        sight, rotation = Sight.within(both, until, x.device, self.config.kernel), self._rotation(merge(prefix.positions, positions))
        x, row = merge(prefix.tokens, x), row.to(x.device)
        is_target, hidden = is_target.to(x.device), None
        for i, (block, modulation) in enumerate(zip(self.blocks, self._modulations(embedding, lambda rows: both.tokens(rows[row])), strict=True), 1):
            x, _, _ = self._run(block, x, modulation, rotation, sight)
            hidden = own.tokens(x.flatten(0, 1)[is_target]) if i == after else hidden
        return own.tokens(x.flatten(0, 1)[is_target]), hidden

    def _embed_time(self, t: Tensor) -> Tensor:
        return F.silu(self.time_in(t.to(self.proj_out.weight.device)))

    def _modulations(self, embedding: Tensor, spread: Callable[[Tensor], Tensor]) -> list[Modulation]:
        """One per block, from time embeddings (B, width); ``spread`` carries rows to the tokens."""
        if self.modulation is not None:
            return [Modulation.of(self.modulation(embedding), self.config.gates, spread)] * len(self.blocks)
        return [Modulation.of(cast(nn.Linear, block.modulation)(embedding), self.config.gates, spread) for block in self.blocks]

    def _rotation(self, positions: Tensor) -> Tensor:
        return rope.rotation(positions, [f.to(positions.device) for f in self.freqs])

    def _run(
        self, block: nn.Module, x: Tensor, modulation: Modulation, rotation: Tensor, sight: Sight, past: KeysValues | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One block; with ``checkpointing`` its activations are recomputed in the backward pass."""
        if self.config.checkpointing and torch.is_grad_enabled():
            return checkpoint(block, x, modulation, rotation, sight, past, use_reentrant=False, preserve_rng_state=False)  # type: ignore[no-any-return]
        return block(x, modulation, rotation, sight, past)  # type: ignore[no-any-return]

    def save(self, folder: Path) -> None:
        """Write config.json and model.safetensors, and diffusers.json for a model that came from there."""
        save_network(self, self.config, folder)
        if self.origin:
            (Path(folder) / ORIGIN).write_text(json.dumps(self.origin, indent=1))

    @classmethod
    def load(cls, folder: Path) -> "MMDiT":
        """Read a folder written by `save`."""
        model = load_network(cls, MMDiTConfig, folder)
        if (Path(folder) / ORIGIN).exists():
            model.origin = json.loads((Path(folder) / ORIGIN).read_text())
        return model
