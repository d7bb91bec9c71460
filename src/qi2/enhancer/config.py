"""Parameters of the prompt enhancer (report section 3.3). Torch-free.

The report starts from Qwen3.5-9B, trains by SFT and then GRPO, and gives no numbers: these defaults are ours, those of ``conf/scale/tiny.yaml`` measured.
"""

from dataclasses import dataclass, field

from qi2.training.config import OptimizerConfig

CATEGORIES = ("general", "portrait", "text", "complex_text")
TASKS = ("t2i", "ti2i")


@dataclass
class EnhancerModelConfig:
    """The language model. ``path``: a Qwen3 or Qwen3.5 causal model (folder or hub id); without one a tiny Qwen3 of the size below is trained here."""

    path: str = ""
    width: int = 128
    layers: int = 4
    heads: int = 4
    vocabulary: int = 1024  # tokens of the tiny model
    lora_rank: int = 0  # of adapters instead of all weights, for a model from ``path``; merged into what is published


@dataclass
class TripletsConfig:
    """How (short, reasoning, fine) triplets are made from annotations."""

    pool: int = 20000  # triplets at most; every training caption is degraded at least once where they suffice
    edit_share: float = 0.3  # of the triplets are editing instructions
    kinds: list[str] = field(default_factory=list)  # of the annotated rows to take; empty: all
    mixture: dict[str, float] = field(  # chance of each strategy that a category allows
        default_factory=lambda: {
            "background": 0.35, "relate": 0.3, "layout": 0.3, "lighting": 0.5, "texture": 0.5, "style": 0.5, "colloquial": 0.6, "terse": 0.4
        }
    )  # fmt: skip
    edit_mixture: dict[str, float] = field(default_factory=lambda: {"concise": 1.0, "colloquial": 0.5})  # report: no stochastic removal for edits
    keep: float = 0.15  # share of triplets whose prompt is full already, so that a full prompt is left as it is
    reserve: float = 0.0  # share of what annotations combine (a colour with a shape; else of their rows) that SFT does not read and RL asks for
    wordings: list[str] = field(default_factory=list)  # further files of colloquial wordings
    examples: list[str] = field(default_factory=list)  # JSONL files of further triplets
    llm: str = ""  # a chat model (folder or hub id) that classifies and degrades; "": exact rules
    llm_tries: int = 2  # of one annotation, before the rules take it


@dataclass
class LimitsConfig:
    """What a rewritten prompt may be."""

    tokens: int = 512  # that the model may generate, reasoning included
    characters: int = 2000  # of the rewritten prompt
    growth: float = 12.0  # at most so many times as long as the original, in words ...
    spare: int = 16  # ... plus so many


@dataclass
class EnhancerSFTConfig:
    """Next-token prediction on the answers of triplets."""

    steps: int = 1000
    batch_size: int = 32
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(lr=1.0e-5, weight_decay=0.0))
    micro: int = 0  # triplets that go through the model together, as memory allows; 0: the batch
    save_every: int = 250


@dataclass
class EnhancerRLConfig:
    """GRPO with the frozen generator in the loop. ``rewards`` are weights after each is normalised in its group."""

    steps: int = 200
    prompts: int = 16  # groups per step
    group: int = 8  # rewrites per prompt
    updates: int = 1  # optimiser steps per batch of rewrites; ``steps`` counts these
    images: int = 1  # pictures per rewrite, each with its own noise
    kinds: dict[str, float] = field(default_factory=dict)  # relative weights of kinds among the prompts; empty: every triplet counts the same
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(lr=1.0e-6, weight_decay=0.0, floor=1.0))
    temperature: float = 1.0
    top_p: float = 1.0
    beta: float = 0.0  # weight of the KL divergence from the SFT model
    anchor: float = 0.0  # weight of SFT's loss on its own triplets, beside RL's
    epsilon: float = 0.2
    micro: int = 0  # rewrites that go through the model together, as memory allows; 0: all
    rewards: dict[str, float] = field(default_factory=lambda: {"consistency": 1.0, "aesthetic": 0.1, "text": 1.0})
    save_every: int = 50


@dataclass
class EnhancerConfig:
    """Stage `enhancer`."""

    model: EnhancerModelConfig = field(default_factory=EnhancerModelConfig)
    instructions: dict[str, str] = field(
        default_factory=lambda: {
            "t2i": "Rewrite the prompt for an image generator: keep its intent and every quoted text, and add the details that a picture needs.",
            "ti2i": "Rewrite the instruction for an image editor: keep its intent and every quoted text, and say exactly what changes.",
        }
    )
    triplets: TripletsConfig = field(default_factory=TripletsConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    sft: EnhancerSFTConfig = field(default_factory=EnhancerSFTConfig)
    rl: EnhancerRLConfig = field(default_factory=EnhancerRLConfig)
    generator: str = "distill"  # the model of the line that draws rewrites: distill, rlhf, sft
    size: int = 256  # pixels of the pictures that it draws
    batch: int = 16  # pictures that it draws together
    device: str = "cpu"  # of the language models, the generator and the reward models: cpu, cuda or cuda:N; all of them share one GPU
    evaluate_prompts: int = 200  # held-out prompts per sampled kind in the stage `evaluate`; 0: none
