"""RL of the enhancer: GRPO with the frozen generator in the loop, with TRL (report section 3.3; Shao et al., 2024).

Each reward is normalised in its group before they are added up (GDPO, ``normalize_then_sum``), so that a weight says what a reward is worth.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from qi2.core.reporter import Reporter
from qi2.enhancer.anchor import Anchor
from qi2.enhancer.config import EnhancerConfig
from qi2.enhancer.loop import Bridge, quiet, train
from qi2.enhancer.rewards import Judge
from qi2.enhancer.sft import POINTS, placed, scheduled, shared
from qi2.enhancer.template import question
from qi2.enhancer.triplets import Triplet


def train_rl(
    model: Any, tokenizer: Any, triplets: Sequence[Triplet], judge: Judge, anchor: Anchor, config: EnhancerConfig, seed: int, reporter: Reporter,
    scratch: Path, folder: Path | None, facts: Mapping[str, Any],
) -> None:  # fmt: skip
    """Train ``model`` in place on the short prompts of the triplets; ``judge`` knows them by their number."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer  # type: ignore[attr-defined]

    quiet()
    rl = config.rl
    rewrites = rl.prompts * rl.group
    micro = rl.micro or rewrites
    weights = {name: weight for name, weight in rl.rewards.items() if weight > 0}
    rows = [{"prompt": question(tokenizer, config.instructions, t.task, t.short), "number": i} for i, t in enumerate(triplets)]
    settings = GRPOConfig(
        output_dir=str(scratch),
        max_steps=rl.steps,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=max(1, rewrites // micro),
        num_generations=rl.group,
        num_iterations=rl.updates,
        max_completion_length=config.limits.tokens,
        max_grad_norm=rl.optimizer.clip,
        temperature=rl.temperature,
        top_p=rl.top_p,
        beta=rl.beta,
        epsilon=rl.epsilon,
        reward_weights=list(weights.values()),
        multi_objective_aggregation="normalize_then_sum",
        save_strategy="steps" if folder else "no",
        save_steps=rl.save_every,
        **shared(model, seed, max(1, rl.steps // POINTS)),
    )

    class Anchored(GRPOTrainer):  # type: ignore[misc]
        """With SFT's loss beside that of RL."""

        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Tensor:
            loss: Tensor = super().compute_loss(model, inputs, *args, **kwargs)
            if not rl.anchor:
                return loss
            kept = anchor(model, self.state.global_step)
            self._metrics["train"]["anchor"].append(float(kept.detach()))
            return loss + rl.anchor * kept / self.current_gradient_accumulation_steps

    trainer = Anchored(
        model,
        reward_funcs=[*judge.functions(weights)],
        args=placed(settings, model.device),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        optimizers=scheduled(model, rl.optimizer, rl.steps),
    )
    train(trainer, Bridge("enhancer-rl", reporter, folder, facts, rl.steps, rl.updates))
