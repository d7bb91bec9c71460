"""Architecture of the image autoencoder as data; torch-free, so that resolving a recipe costs nothing."""

from dataclasses import dataclass, field

from qi2.core.errors import QI2Error


@dataclass
class Tiling:
    """Large images go through `VAE.encode` and `VAE.decode` in overlapping squares, so that memory does not grow with them (ours)."""

    above: int = 1536 * 1536
    """Pixels per image from which on tiles are used; 0: never."""
    side: int = 1024
    """Of a tile, in pixels."""
    overlap: int = 256
    """Of neighbouring tiles at least, in pixels; over it the weight passes linearly from one to the other."""

    def check(self, factor: int) -> None:
        """Raise QI2Error where tiles cannot lie on the latent grid."""
        if self.above and (self.side % factor or self.overlap % factor or not 0 < self.overlap <= self.side // 2):
            raise QI2Error(
                f"vae.model.tiling: side {self.side} and overlap {self.overlap} must be multiples of {factor}, and the overlap at most half of the side"
            )


@dataclass
class VAEArchitecture:
    """An f16c64 residual autoencoder; the defaults are the report's size (section 3.1, Table 1: 79M encoder, 259M decoder).

    The report gives the two parameter counts, the factor and the channels; widths are those of the published weights' class, whose
    convolutions over time never run on images: here one more residual block in each half makes up the report's count (ours).
    The published layout itself stands in the scale ``report``; `qi2.models.vae_diffusers` reads and writes its weights.
    ``patch`` pixels are folded into channels before the first convolution, so ``patch * 2 ** (len(multipliers) - 1)`` is the factor.
    """

    image_channels: int = 3
    """3, or 4 for images with transparency: RGB is then taken as opaque, and decoded images have the fourth channel."""
    latent_channels: int = 64
    factor: int = 16
    patch: int = 1
    encoder_base: int = 96
    decoder_base: int = 144
    multipliers: list[int] = field(default_factory=lambda: [1, 2, 4, 8, 8])
    encoder_blocks: list[int] = field(default_factory=lambda: [2, 3, 2, 2, 2])
    """Residual blocks per encoder stage, from the image to the latent."""
    decoder_blocks: list[int] = field(default_factory=lambda: [3, 3, 4, 3, 3])
    """Residual blocks per decoder stage, in the encoder's order: the first number belongs to the stage next to the image."""
    kernel: int = 3
    """Of the convolutions, except those between latent and network, which are 3x3 and let every position see its neighbours."""
    resampling: str = "stride"
    """``stride``: strided convolution down, nearest neighbour and convolution up. ``fold``: space to channels and back (DC-AE's)."""
    attention: bool = True
    """One single-head attention layer between the two residual blocks in the middle, at 1/16 of the image."""
    temporal_stages: list[bool] = field(default_factory=list)
    """One for each halving, from the image to the latent: whether it is laid out as in the video autoencoder, for a single frame.

    Such a stage has another shortcut and keeps a convolution over time that never runs (`qi2.models.vae_blocks`). Empty: none has.
    """
    normalisation: str = "rms"
    """``rms``: 1e-6 is added to the mean square. ``l2``: the channel vector's length times the root of the channels, nothing added."""
    quant_convs: bool = False
    """1x1 convolutions behind the encoder (on mean and log-variance) and before the decoder."""
    linear_skip: bool = False
    """A linear map of each patch beside the network, filled by PCA before training: usable within seconds on a CPU (ours)."""
    checkpointing: bool = False
    """Recompute the activations of each stage in the backward pass: less memory for a third more work."""
    tiling: Tiling = field(default_factory=Tiling)

    def check(self) -> None:
        """Raise QI2Error where the numbers do not fit together."""
        stages = len(self.multipliers)
        if self.patch * 2 ** (stages - 1) != self.factor:
            raise QI2Error(f"vae.model: patch {self.patch} and {stages} stages make a factor of {self.patch * 2 ** (stages - 1)}, not {self.factor}")
        for name in ("encoder_blocks", "decoder_blocks"):
            if len(getattr(self, name)) != stages:
                raise QI2Error(f"vae.model.{name} needs one number for each of the {stages} multipliers")
        if self.temporal_stages and len(self.temporal_stages) != stages - 1:
            raise QI2Error(f"vae.model.temporal_stages needs one value for each of the {stages - 1} halvings, or none")
        for name, known in (("resampling", ("stride", "fold")), ("normalisation", ("rms", "l2"))):
            if getattr(self, name) not in known:
                raise QI2Error(f"vae.model.{name} is {getattr(self, name)!r}; choose {' or '.join(known)}")
        if self.image_channels not in (3, 4):
            raise QI2Error(f"vae.model.image_channels is {self.image_channels}; choose 3 (RGB) or 4 (RGBA)")
        if self.linear_skip and (self.quant_convs or self.image_channels != 3):
            raise QI2Error("vae.model.linear_skip goes with RGB images and without quant_convs; switch one of them off")
        self.tiling.check(self.factor)

    def temporal(self, stage: int) -> bool:
        """Whether the halving number ``stage``, from the image, is laid out as in the video autoencoder."""
        return bool(self.temporal_stages) and self.temporal_stages[stage]
