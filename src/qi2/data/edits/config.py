"""Parameters of the editing pairs made from photographs (report 2.1). All numbers are ours. Torch-free."""

from dataclasses import dataclass, field


@dataclass
class PhotoEditsConfig:
    """Pairs are made of the user's images, or else of the crops of the bundled photographs; those of held-out ones are held out."""

    count: int = 0
    side: int = 256  # px of the longer side at most
    square: bool = True  # of their centred squares, as training cuts them: places in instructions stay true
    kinds: dict[str, float] = field(default_factory=dict)  # relative (see registry.OPERATIONS); all alike where none is named
