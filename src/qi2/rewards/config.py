"""Parameters of the reward models (report section 4.2). Torch-free.

The report names the five rewards and says that they are calibrated to comparable scales; everything else here is ours.
"""

from dataclasses import dataclass, field

from qi2.training.config import OptimizerConfig

DIMENSIONS = ("aesthetic", "alignment", "portrait", "instruction", "consistency")


@dataclass(frozen=True)
class Needs:
    """What a reward looks at besides the picture: the prompt, and the picture that was to be edited."""

    prompt: bool
    source: bool


NEEDS = {
    "aesthetic": Needs(prompt=False, source=False),
    "alignment": Needs(prompt=True, source=False),
    "portrait": Needs(prompt=False, source=False),
    "instruction": Needs(prompt=True, source=True),
    "consistency": Needs(prompt=True, source=True),
}
"""Instruction following and visual consistency are printed "(for T2I)" in the report, but it describes editing: they judge TI2I."""

JUDGED = "judged.csv"
"""In every reward's folder: its held-out pairs with their probabilities, for intervals and for a closer look."""

TOWERS = ("train", "lora", "frozen")
TIES = ("learned", "set", "half")


@dataclass
class TowerLoRA:
    """Low-rank adapters of the vision tower, where ``tower`` is lora."""

    rank: int = 16
    alpha: float = 0.0  # the adapter counts alpha / rank; 0: as rank, thus 1
    targets: list[str] = field(default_factory=lambda: ["qkv", "proj", "linear_fc1", "linear_fc2"])  # linear layers of its blocks


@dataclass
class RewardArchitecture:
    """One reward model as it is stored.

    ``mean`` and ``temperature`` put its scores on the scale of all rewards: there a difference of 1 is a logit of 1, and 0 the mean of the
    reference pictures. The last three turn differences into probabilities (`qi2.objectives.calibration.Calibration`). All five are fitted
    on pairs that it was not trained on.
    """

    dimension: str = "alignment"
    size: int = 256  # px; the side of the square that it sees
    width: int = 256  # of the head
    layers: int = 2
    heads: int = 4
    tower: str = "train"
    lora: TowerLoRA = field(default_factory=TowerLoRA)
    ties: str = "learned"
    uncertain: bool = False
    mean: float = 0.0
    temperature: float = 1.0
    tie: float = 0.0
    sharpness: float = 1.0
    mistakes: float = 0.0


@dataclass
class DimensionConfig:
    """How one reward is trained: preference pairs in the pool, optimiser steps, and pairs per step."""

    pairs: int = 8000
    steps: int = 2000
    batch_size: int = 64
    weight_decay: float = -1.0  # of the matrices; negative: as ``rewards.optimizer`` says


@dataclass
class RewardsConfig:
    """``pairs`` is a table of annotated judgements (.jsonl, .json, .csv, .tsv or .parquet) in one of the formats of `qi2.rewards.formats`.

    Dimensions that it does not cover, or all where it is empty, learn from pairs that the line makes itself: of the world, or of the
    user's own images where those are the data.
    """

    pairs: str = ""
    format: str = ""  # of the table; empty: its columns tell
    images: str = ""  # folder that the table's paths start from; empty: the table's own
    dimensions: dict[str, str] = field(default_factory=dict)  # {the table's question: the reward that it counts for, or nothing}
    min_confidence: float = 0.0  # rows whose annotators agreed less are left out (HPSv3 trains from 0.95)
    heldout: int = 1200  # pairs per dimension that are not trained on
    heldout_share: float = 0.1  # of annotated prompts, and of the user's own images
    calibration: float = 0.4  # share of the held-out prompts whose pairs put the scores on the common scale; the others give the figures
    label_noise: float = 0.1  # share of the world's preferences that are turned round, so that accuracy has a ceiling of 0.9
    equal: float = 0.1  # share of the world's pairs that show two equally good pictures, whose label is a tie
    ties: str = "learned"  # the logit of a tie is learned, or set to ``tie``; half: a tie is half a win for either side
    tie: float = 0.5
    uncertain: bool = False  # scores are normal distributions, whose deviation the head gives as well
    size: int = 256
    width: int = 256
    layers: int = 2
    heads: int = 4
    tower: str = "frozen"  # the VLM's vision tower: train a copy of it per dimension, adapters on it (lora), or leave it frozen
    lora: TowerLoRA = field(default_factory=TowerLoRA)
    parallel: int = 1  # processes that train rewards side by side, each with a VLM of its own; 0: as many as cores allow. The results are the same
    device: str = "cpu"  # where the VLM reads prompts and the trained models are measured: cpu or cuda
    center: float = 0.01  # weight of the squared scores (the coefficient that TRL suggests)
    others: int = 1  # pictures of other prompts that every prompt is also compared with
    decoded: float = 0.5  # share of the training pictures that pass through the VAE
    latent_noise: float = 0.15  # largest deviation of the noise on their latents (a latent value's is 1)
    blur: float = 0.5  # largest share of a 3 x 3 mean in a training picture
    noise: float = 4.0  # largest deviation of its noise, 0..255
    portrait_words: list[str] = field(
        default_factory=lambda: ["portrait", "face", "person", "people", "man", "men", "woman", "women", "girl", "boy", "child", "selfie"]
    )
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig("adam", lr=2e-4, weight_decay=1e-2, warmup=20))
    aesthetic: DimensionConfig = field(default_factory=DimensionConfig)
    alignment: DimensionConfig = field(default_factory=DimensionConfig)
    portrait: DimensionConfig = field(default_factory=DimensionConfig)
    instruction: DimensionConfig = field(default_factory=DimensionConfig)
    consistency: DimensionConfig = field(default_factory=DimensionConfig)
