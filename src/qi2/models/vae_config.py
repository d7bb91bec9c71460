"""Architecture of the image autoencoder as data; torch-free, so that resolving a recipe costs nothing."""

from dataclasses import dataclass, field

from qi2.core.errors import QI2Error


@dataclass
class VAEArchitecture:
    """An f16c64 residual autoencoder; the defaults are the report's size (section 3.1, Table 1: 79M encoder, 259M decoder).

    The report gives the two parameter counts, the factor and the channels; widths are those of the published weights' class, whose
    convolutions over time never run on images: here one more residual block in each half makes up the report's count (ours).
    ``patch`` pixels are folded into channels before the first convolution, so ``patch * 2 ** (len(multipliers) - 1)`` is the factor.
    """

    image_channels: int = 3
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
    linear_skip: bool = False
    """A linear map of each patch beside the network, filled by PCA before training: usable within seconds on a CPU (ours)."""
    checkpointing: bool = False
    """Recompute the activations of each stage in the backward pass: less memory for a third more work."""

    def check(self) -> None:
        """Raise QI2Error where the numbers do not fit together."""
        stages = len(self.multipliers)
        if self.patch * 2 ** (stages - 1) != self.factor:
            raise QI2Error(f"vae.model: patch {self.patch} and {stages} stages make a factor of {self.patch * 2 ** (stages - 1)}, not {self.factor}")
        for name in ("encoder_blocks", "decoder_blocks"):
            if len(getattr(self, name)) != stages:
                raise QI2Error(f"vae.model.{name} needs one number for each of the {stages} multipliers")
        if self.resampling not in ("stride", "fold"):
            raise QI2Error(f"vae.model.resampling is {self.resampling!r}; choose stride or fold")
