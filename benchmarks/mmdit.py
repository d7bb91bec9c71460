"""The MMDiT beside diffusers' QwenImage21Transformer2DModel with the same weights and inputs: ``python -m benchmarks.mmdit``.

One training step (forward, backward, AdamW) on a batch of unequal prompts, and guided sampling with both models' cached conditions, each in
turns within one run; the medians' ratio is the speed-up. ``matmul_utilisation``: the model's FLOPs per second, by those of a plain matrix
product of the same dtype and of the widths of its MLP, in the same run; ``_theirs`` the same for diffusers, for the same useful work, without
its paddings. Diffusers pads prompts to the longest. ``--scale`` picks widths, ``--device cuda --dtype bfloat16 --scale 1b`` is for a GPU.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from qi2.models.config import MMDiTConfig, Schedule
from qi2.models.mmdit import MMDiT
from qi2.models.mmdit_diffusers import config_to_diffusers, module_names, rename
from qi2.models.sampler import Guided, sample
from qi2.models.sequence import EncodedPrompt, collate

SIZES: dict[str, tuple[MMDiTConfig, int, int, tuple[int, int]]] = {
    "tiny": (MMDiTConfig(layers=5, width=96, heads=3, context_width=64, rope_axes=[16, 8, 8]), 64, 4, (4, 40)),
    "small": (MMDiTConfig(layers=12, width=512, heads=8, context_width=64, rope_axes=[16, 24, 24]), 8, 16, (20, 120)),
    "1b": (MMDiTConfig(layers=24, width=1792, heads=14, context_width=4096, rope_axes=[16, 56, 56]), 32, 32, (30, 400)),
}
"""Config, batch, side of the target in latent tokens, and the range of prompt lengths."""


@dataclass
class Batch:
    """The same inputs for both: prompts (list of (n, C)), noisy latents, times."""

    prompts: list[torch.Tensor]
    x: torch.Tensor
    t: torch.Tensor

    @staticmethod
    def draw(config: MMDiTConfig, n: int, side: int, lengths: tuple[int, int], device: str) -> "Batch":
        rng = torch.Generator().manual_seed(0)
        tokens = torch.randint(lengths[0], lengths[1] + 1, (n,), generator=rng).tolist()
        prompts = [torch.randn(count, config.context_width, generator=rng).to(device) for count in tokens]
        return Batch(prompts, torch.randn(n, config.latent_channels, side, side, generator=rng).to(device), torch.rand(n, generator=rng).to(device))


class Ours:
    """Our network, as training and sampling call it."""

    def __init__(self, config: MMDiTConfig, device: str, dtype: torch.dtype) -> None:
        torch.manual_seed(0)
        self.model = MMDiT(config)
        for p in self.model.parameters():
            torch.nn.init.normal_(p, std=0.02)
        self.model.to(device, dtype)

    def velocity(self, batch: Batch) -> torch.Tensor:
        prompts = [EncodedPrompt(text, [len(text)]) for text in batch.prompts]
        return self.model(batch.x, batch.t, self.model.encode_condition(collate(prompts, [[]] * len(prompts))))

    @torch.no_grad()
    def sample(self, batch: Batch, steps: int) -> torch.Tensor:
        prompts, empty = [EncodedPrompt(text, [len(text)]) for text in batch.prompts], EncodedPrompt(batch.prompts[0][:1], [1])
        conditional = self.model.encode_condition(collate(prompts, [[]] * len(prompts)))
        unconditional = self.model.encode_condition(collate([empty], [[]])).repeat(len(prompts))
        return sample(Guided(self.model, conditional, unconditional, 4.0), batch.x, Schedule(steps))


class Theirs:
    """Diffusers' network, as its pipeline calls it: padded prompts with a mask, one pass per branch, cached from the second step on."""

    def __init__(self, ours: Ours, device: str, dtype: torch.dtype) -> None:
        from diffusers.models.transformers.transformer_qwenimage21 import QwenImage21Transformer2DModel  # the package's own name is a stand-in to mypy

        config = ours.model.config
        settings = {name: value for name, value in config_to_diffusers(config).items() if not name.startswith("_")}
        self.model = QwenImage21Transformer2DModel(**settings)
        self.model.load_state_dict(rename(ours.model.state_dict(), module_names(config.layers), "ours"))
        self.model.to(device, dtype)
        self.dtype = dtype

    def _inputs(self, prompts: list[torch.Tensor], x: torch.Tensor) -> dict[str, Any]:
        text = torch.nn.utils.rnn.pad_sequence(prompts, batch_first=True).to(self.dtype)
        valid = torch.arange(text.shape[1], device=x.device) < torch.tensor([len(p) for p in prompts], device=x.device)[:, None]
        slots = torch.zeros(len(x), text.shape[1] + x[0, 0].numel() // 4, dtype=torch.bool, device=x.device)
        slots[:, text.shape[1] :] = True
        shapes = [[(1, *x.shape[2:])]] * len(x)
        mask = None if bool(valid.all()) else valid
        return {"encoder_hidden_states": text, "img_shapes": shapes, "img_mask": slots, "encoder_hidden_states_mask": mask, "return_dict": False}

    def _call(self, inputs: dict[str, Any], x: torch.Tensor, t: torch.Tensor, **options: Any) -> torch.Tensor:
        out = self.model(x.flatten(2).transpose(1, 2).to(self.dtype), timestep=t, **inputs, **options)[0]
        return out[:, -x[0, 0].numel() :].transpose(1, 2).unflatten(2, x.shape[2:]).float()

    def velocity(self, batch: Batch) -> torch.Tensor:
        return self._call(self._inputs(batch.prompts, batch.x), batch.x, batch.t)

    @torch.no_grad()
    def sample(self, batch: Batch, steps: int) -> torch.Tensor:
        from diffusers.models.transformers.transformer_qwenimage21 import QwenImage21KVCache

        x, times = batch.x, torch.linspace(1, 0, steps + 1, device=batch.x.device)
        branches = [self._inputs(prompts, x) for prompts in (batch.prompts, [batch.prompts[0][:1]] * len(x))]
        caches = [QwenImage21KVCache(len(self.model.transformer_blocks)) for _ in branches]
        for i, (now, after) in enumerate(zip(times[:-1], times[1:], strict=True)):
            mode = "cached" if i else "extract"
            v, v_u = (self._call(b, x, now.expand(len(x)), kv_cache=c, kv_cache_mode=mode) for b, c in zip(branches, caches, strict=True))
            x = x + (after - now) * (v_u + 4.0 * (v - v_u))
        return x


def step(model: Any, optimizer: torch.optim.Optimizer, batch: Batch) -> None:
    """One training step."""
    model.velocity(batch).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


def seconds(work: Callable[[], Any], device: str) -> float:
    """Wall seconds until the device has finished."""
    if device == "cuda":
        torch.cuda.synchronize()
    begin = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def in_turns(works: Sequence[Callable[[], Any]], repeats: int, device: str) -> list[float]:
    """Each one's median, called in turns after a warm-up."""
    for work in works:
        work()
    return [float(np.median(times)) for times in zip(*[[seconds(work, device) for work in works] for _ in range(repeats)], strict=True)]


def matmul_rate(config: MMDiTConfig, tokens: int, device: str, dtype: torch.dtype) -> float:
    """FLOPs per second of a plain matrix product of the MLP's shape."""
    a, b = torch.randn(tokens, config.width, device=device, dtype=dtype), torch.randn(config.width, 3 * config.width, device=device, dtype=dtype)
    with torch.no_grad():
        return 2 * a.numel() * b.shape[1] / in_turns([lambda: a @ b], 20, device)[0]


def flops(work: Callable[[], Any]) -> float:
    """FLOPs of matrix products and attention."""
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mmdit", description=__doc__)
    parser.add_argument("--scale", choices=SIZES, default="tiny")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--compile", action="store_true", help="torch.compile our blocks")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=15)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    dtype = getattr(torch, args.dtype)
    config, n, side, lengths = SIZES[args.scale]
    config = replace(config, compile=args.compile)
    batch = Batch.draw(config, n, side, lengths, args.device)
    ours = Ours(config, args.device, dtype)
    theirs = Theirs(ours, args.device, dtype)
    single = Batch([batch.prompts[0]], batch.x[:1], batch.t[:1])
    with torch.no_grad():
        difference = float((ours.velocity(single) - theirs.velocity(single)).abs().max())
    optimizers = [torch.optim.AdamW(m.model.parameters(), lr=1e-6) for m in (ours, theirs)]
    train = in_turns([partial(step, m, o, batch) for m, o in zip((ours, theirs), optimizers, strict=True)], args.repeats, args.device)
    draw = in_turns([partial(m.sample, batch, args.steps) for m in (ours, theirs)], max(3, args.repeats // 5), args.device)
    work = flops(lambda: ours.velocity(batch).square().mean().backward())
    rate = matmul_rate(config, sum(len(p) for p in batch.prompts) + n * side * side, args.device, dtype)
    result = {
        "scale": args.scale, "dtype": args.dtype,
        "device": torch.cuda.get_device_name() if args.device == "cuda" else "cpu", "threads": args.threads, "compile": args.compile,
        "max_difference": difference,
        "train_step_speedup": round(train[1] / train[0], 2), "train_step_s": round(train[0], 4),
        "sampling_speedup": round(draw[1] / draw[0], 2), "sampling_s": round(draw[0], 3),
        "matmul_utilisation": round(work / train[0] / rate, 3), "matmul_utilisation_theirs": round(work / train[1] / rate, 3),
        "matmul_gflops": round(rate / 1e9, 1),
    }  # fmt: skip
    print(json.dumps(result))


if __name__ == "__main__":
    main()
