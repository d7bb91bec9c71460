"""Parameters of the curation models: where a pretrained one is, or how to train a small one. Torch-free."""

from dataclasses import dataclass


@dataclass
class ClipConfig:
    """Image-text similarity. ``path`` is a folder or hub id of a CLIP, SigLIP or fixed-size SigLIP2; empty trains the stand-in below.

    The cosines of another model lie on another scale, those of SigLIP far below CLIP's: choose ``min_clip`` of every stage anew.
    """

    path: str = ""
    image_size: int = 64
    patch: int = 16
    width: int = 64
    layers: int = 2
    heads: int = 4
    projection: int = 64
    max_tokens: int = 64
    images: int = 6144  # images that training may read; evenly spread over the rows
    steps: int = 120
    batch_size: int = 96
    lr: float = 8e-3  # matrices (Muon)
    adam_lr: float = 2e-3  # everything else


@dataclass
class NSFWConfig:
    """Unsafe-image classifier. ``path`` is a folder or hub id for ViTForImageClassification; empty trains the stand-in below.

    The stand-in's unsafe class is a picture with the hazard stripes of ``qi2.data.world.defects`` drawn across.
    """

    path: str = ""
    image_size: int = 32
    patch: int = 8
    width: int = 48
    layers: int = 2
    heads: int = 4
    images: int = 2048
    steps: int = 200
    batch_size: int = 64
    lr: float = 3e-3


@dataclass
class AestheticConfig:
    """Aesthetic head. ``path`` is a .safetensors file of LAION's predictor, for the CLIP that ``clip.path`` names (ViT-L/14); empty: colourfulness.

    With it ``curate.stage4.min_aesthetic`` lies on its scale, 1..10, and edits have no aesthetic score.
    """

    path: str = ""


@dataclass
class OrientationConfig:
    """Which way up a picture's content is. ``path`` is a folder or hub id of an image classifier whose classes name 0, 90, 180 and 270 degrees.

    Empty: only EXIF is asked. A model rejects nothing before a stage sets ``min_upright``.
    """

    path: str = ""
