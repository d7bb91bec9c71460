"""Parameters of ingest: what raw data is made of. Torch-free.

The report gives neither data nor sizes for these; every number here is ours.
"""

from dataclasses import dataclass, field

from qi2.data.edits.config import PhotoEditsConfig
from qi2.data.pages.config import PagesConfig


@dataclass
class DataConfig:
    """With an empty ``source`` the procedural world and the bundled photographs are drawn; else the user's files are read."""

    source: str = ""  # folder of images with .txt captions, table, tar shards, datasets folder, or s3://BUCKET/PREFIX (see sources/)
    cache: str = ".qi2/sources"  # where objects of a bucket are copied to
    licence: str = "unknown"  # of user rows that state none
    heldout_fraction: float = 0.02  # of user rows, chosen by a hash of the content
    image_size: int = 256  # px of world images
    world_images: int = 32000  # training images of the tiny kinds, no picture twice (there are about 51000)
    world_mix: dict[str, float] = field(
        default_factory=lambda: {"one": 0.02, "two": 0.2, "count": 0.06, "relation": 0.2, "text": 0.52}
    )  # relative; a kind that has no further picture leaves its share to the others
    rich_images: int = 16000  # faces, pages of text, three and four objects, in turn
    rich_sizes: list[int] = field(default_factory=lambda: [256, 384, 512])
    edit_pairs: int = 32000
    # Relative. Of the report's other families only what is named is drawn: style, restore, colour, outline, reference, gather, subject, style_transfer
    edit_mix: dict[str, float] = field(
        default_factory=lambda: {"recolor": 1.0, "move": 1.0, "add": 1.0, "remove": 1.0, "background": 1.0, "word": 1.0, "combine": 1.0}
    )
    photo_crops: int = 400  # of the training photographs, fewer where they have no further room
    photo_sizes: list[int] = field(default_factory=lambda: [128, 192, 256])  # sides of crops
    pages: PagesConfig = field(default_factory=PagesConfig)  # of text, in many languages
    photo_edits: PhotoEditsConfig = field(default_factory=PhotoEditsConfig)  # exact edits of photographs
    heldout_images: int = 240  # of all scene kinds, in turn
    heldout_edits: int = 56
    heldout_crops: int = 64  # of photographs that training never sees
    defect_share: float = 0.06  # broken, duplicate, wrong and unsafe rows relative to the training images
    captions_per_image: int = 3
    shard_rows: int = 4096
    workers: int = 2  # processes that draw and encode; the bytes do not depend on it
