"""Parameters of the VAE stage. Torch-free."""

from dataclasses import dataclass, field

from qi2.models.vae_config import VAEArchitecture


@dataclass
class ImageBatch:
    """One kind of training batch: ``share`` of the steps take ``size`` images of ``pool`` at ``side`` pixels.

    Pools: ``scene`` (the world's small scenes, shown whole), ``rich`` (its faces, pages and larger scenes, shown whole),
    ``photo`` (everything else: square crops at random scales). Shares count relative to those of the pools that have images.
    """

    pool: str = "photo"
    side: int = 256
    size: int = 32
    share: float = 1.0


@dataclass
class PerceptualConfig:
    """``kind``: ``none``, ``teacher`` (the condition encoder's vision tower) or ``vision`` (a transformers vision model at ``path``).

    The report (3.1) names a perceptual loss and no network; kind, weight and layers are ours.
    """

    kind: str = "teacher"
    path: str = ""
    layers: list[int] = field(default_factory=lambda: [-1])
    """``vision`` only: indices into the model's hidden states."""
    weight: float = 0.05


@dataclass
class AlignmentConfig:
    """VA-VAE's loss against the vision tower's features, strong first and relaxing (report 3.1; the numbers are VA-VAE's three stages).

    The weight falls on a cosine from ``start`` to ``end`` while the encoder trains; over the last ``relax_share`` of that time
    the margins grow from 0 to ``distance_margin`` and ``cosine_margin``. The weight multiplies the ratio of the two gradients
    at the encoder's last layer, which is measured every ``adapt_every`` steps.
    """

    start: float = 0.5
    end: float = 0.1
    relax_share: float = 0.12
    distance_margin: float = 0.25
    cosine_margin: float = 0.5
    adapt_every: int = 1


@dataclass
class VAEConfig:
    """``steps`` in all; over the last ``refine_share`` of them the encoder is frozen and only the decoder trains (ours)."""

    path: str = ""
    """A trained VAE to use as it is, of our folder or diffusers' AutoencoderKLQwenImage21: the stage then only measures it."""
    threads: int = 0  # CPU threads of one operation in this stage, where it differs from the recipe's
    model: VAEArchitecture = field(default_factory=VAEArchitecture)
    batches: list[ImageBatch] = field(default_factory=lambda: [ImageBatch(side=256), ImageBatch(side=512, size=8, share=0.5)])
    recolor: float = 0.0
    """Share of the training images that get other colours; see `qi2.vae.data.recolor`."""
    steps: int = 200_000
    refine_share: float = 0.4
    l1_weight: float = 1.0
    gradient_weight: float = 1.0
    square_weight: float = 0.0
    kl_weight: float = 1e-6
    perceptual: PerceptualConfig = field(default_factory=PerceptualConfig)
    alignment: AlignmentConfig = field(default_factory=AlignmentConfig)
    optimizer: str = "adam"
    """``adam``, or ``muon`` for the convolutions' matrices with Adam for the rest."""
    lr: float = 1e-4
    adam_lr: float = 1e-4
    linear_lr: float = 0.0
    """Of the linear skip; 0 keeps it as PCA made it."""
    weight_decay: float = 1e-3
    decay_share: float = 0.4
    warmup: int = 100
    clip: float = 1.0
    ema: float = 0.0
    """Decay per step of the average of the weights that training ends with; 0: its last weights (ours)."""
    whitening: float = 0.0
    """Of the PCA start (``model.linear_skip``), 0..1; see `qi2.vae.pca`."""
    start_noise: float = 0.02
    """The posterior's standard deviation at the PCA start, where a latent value's is 1."""
    statistics_images: int = 512
    """Training images of each kind of batch from which the PCA start and the latents' mean and deviation are measured."""
    heldout_images: int = 128
    """Held-out images of each kind behind the stage's own figures."""
