"""Parameters of curation: which rows each of the report's six stages admits, and its thresholds. Torch-free.

The report (2.3, Figure 6) names the filters and their order but gives no threshold; every number here is ours.
"""

from dataclasses import dataclass, field, fields, replace

MOST_PIXELS = 1 << 26  # 67 million: 200 MB once decoded
MIN_COLOURFULNESS = 8.0  # below: nearly gray
STAGES = ("stage1", "stage2", "stage3", "stage4", "stage5", "stage6")


@dataclass
class StageThresholds:
    """One stage. ``None`` means: as in the stage before (stage 1: filter not applied). Ranges include their ends."""

    sides: list[int] | None = None  # training sides in pixels; the shorter side of an image must reach the smallest
    max_aspect: float | None = None  # longer side / shorter side
    edits: bool | None = None  # admit edit pairs (TI2I)
    min_pair_change: float | None = None  # edits: largest local difference, 0..1, of what may change: below, nothing was done
    max_pair_outside: float | None = None  # edits: largest local difference, 0..1, of what may not change
    min_pair_similarity: float | None = None  # edits: layout or colours in common with the first reference, -1..1
    ti2i_share: float | None = None  # share of edits in what the stage's weights draw, 0..1 (Table 2)
    synthetic: bool | None = None  # admit synthetic rows (see CurateConfig)
    exact_duplicates: bool | None = None  # reject all but the best of identical pictures
    near_duplicates: bool | None = None  # reject all but the best of nearly identical pictures
    max_nsfw: float | None = None  # probability of the unsafe label
    rotation: str | None = None  # rotated by EXIF: "correct" (readers turn it upright) or "reject"
    min_upright: float | None = None  # probability that a picture stands upright, by standins.orientation; it is rejected, never turned
    min_entropy: float | None = None  # bits of the luminance histogram, 0..8: flat pictures lie below
    max_entropy: float | None = None  # bits of the histogram of neighbours' differences, 0..8: noise lies above
    min_clip: float | None = None  # mean cosine of the image with its captions, -1..1; SigLIP's lie lower than CLIP's: choose it anew
    min_tokens: int | None = None  # shortest caption, in tokens of the condition encoder
    max_tokens: int | None = None  # longest caption
    min_sharpness: float | None = None  # second differences from pixel to pixel, 0..255 scale (see filters/quality.py)
    min_aesthetic: float | None = None  # of standins.aesthetic, 1..10; without it colourfulness, about 0..150: another scale, and a stand-in for it
    min_quality: int | None = None  # JPEG quality 1..100 read from the quantisation tables (100: lossless)
    max_blockiness: float | None = None  # step across 8-pixel block borders beyond the step inside blocks, 0..1
    balance: float | None = None  # distribution filter: at most this multiple of the usual count per category (see ``balance_over``); 0: no limit
    survival: list[float] | None = None  # the gate's band for kept / in


@dataclass
class CurateConfig:
    """``stage1`` to ``stage6`` are differences, each to the stage before it; see ``thresholds``."""

    executor: str = "processes"  # who scores the shards: "processes" of this machine, or a cluster: "dask", "ray" (see tasks/executors.py)
    address: str = ""  # of the cluster; empty: one of ``workers`` processes on this machine
    workers: int = 2  # processes that decode and score; 0: in this process
    batch_size: int = 128  # images per forward pass of the model-based filters
    batch_pixels: int = MOST_PIXELS  # and their pixels together: with the largest picture, what a worker holds of decoded pictures
    max_pixels: int = MOST_PIXELS  # a larger picture counts as broken and is not decoded
    device: str = "cpu"  # of the model-based filters, e.g. "cuda"
    synthetic_kinds: list[str] = field(default_factory=lambda: ["layout"])  # kinds that count as the report's synthetic data
    synthetic_sources: list[str] = field(default_factory=lambda: ["synthetic"])
    balance_over: list[str] = field(default_factory=lambda: ["kind", "caption_kind", "side"])  # what ``balance`` evens out, one after the other
    exempt: dict[str, list[str]] = field(default_factory=dict)  # filters that do not judge "synthetic", "world" or "reference" rows: {group: [filter]}
    nsfw_label: str = "nsfw"  # the unsafe class, by its name in the classifier's id2label
    near_search: str = "thumbnails"  # how candidates are found: "thumbnails", or "hashes" for many photographs (see filters/near.py)
    near_bits: int = 64  # hashes: compared bits; 64 also find pictures with their rim cut off, 256 stay fast beyond a few million rows
    near_distance: int = 10  # hashes: of which so many may differ; with 256 bits 31
    near_radius: float = 0.065  # thumbnails: root-mean-square difference of the coarse thumbnails, of full scale 1
    near_layout: float = 0.24  # near-duplicate: layout difference of the aligned thumbnails (see filters/alignment.py) ...
    near_detail: float = 0.9  # ... and their detail difference, both relative to contrast
    semantic_distance: float | None = None  # 1 - cosine of CLIP embeddings up to which two pictures count as one subject; None: not asked
    semantic_clusters: int = 0  # of k-means, inside which they are compared; 0: a quarter of the root of the rows
    captions: list[str] = field(default_factory=list)  # captions.parquet of `qi2 data caption` on the raw folder (see recaption.py)
    caption_mode: str = "replace"  # a row's own captions, or "add" to them
    caption_schemes: list[str] = field(default_factory=lambda: ["general", "text", "knowledge", "structured"])  # which of them, in this order
    known: list[str] = field(default_factory=list)  # scores.parquet of earlier data: copies of what they kept are rejected, held-out ones too
    known_distance: int = 23  # a copy of those differs in at most so many of the 256 bits of its hash
    examples: int = 4  # rejected pictures shown per reason
    stage1: StageThresholds = field(
        default_factory=lambda: StageThresholds(
            sides=[256],
            max_aspect=5.0,
            edits=False,
            ti2i_share=0.0,
            synthetic=False,
            exact_duplicates=True,
            near_duplicates=True,
            max_nsfw=0.5,
            rotation="correct",
            min_entropy=0.5,
            max_entropy=7.5,
            min_clip=0.2,
            min_tokens=3,
            max_tokens=1024,
            survival=[0.2, 1.0],
        )
    )
    stage2: StageThresholds = field(
        default_factory=lambda: StageThresholds(edits=True, ti2i_share=0.1, min_pair_change=0.01, max_pair_outside=0.06, min_pair_similarity=0.25)
    )
    stage3: StageThresholds = field(default_factory=lambda: StageThresholds(sides=[512], synthetic=True))
    stage4: StageThresholds = field(
        default_factory=lambda: StageThresholds(
            sides=[512, 1024], ti2i_share=0.3, min_sharpness=4.0, min_aesthetic=MIN_COLOURFULNESS, min_quality=60, max_blockiness=0.3
        )
    )
    stage5: StageThresholds = field(default_factory=lambda: StageThresholds(sides=[512, 1024, 2048]))
    stage6: StageThresholds = field(
        default_factory=lambda: StageThresholds(
            sides=[1024, 2048], max_nsfw=0.2, min_clip=0.25, min_sharpness=8.0, min_quality=75, max_blockiness=0.2, balance=1.5
        )
    )


def thresholds(config: CurateConfig) -> dict[str, StageThresholds]:
    """Each stage's full thresholds, with everything it leaves open taken from the stage before."""
    resolved: dict[str, StageThresholds] = {}
    current = StageThresholds()
    for name in STAGES:
        stage = getattr(config, name)
        changes = {f.name: getattr(stage, f.name) for f in fields(stage) if getattr(stage, f.name) is not None}
        current = replace(current, **changes)
        resolved[name] = current
    return resolved
