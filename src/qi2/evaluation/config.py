"""Parameters of evaluation. Torch-free."""

from dataclasses import dataclass, field


@dataclass
class EvaluateConfig:
    """Fixed held-out suites and how every model is sampled on them.

    ``steps`` is the many-step teacher of the distillation comparison (report, Figure 11: 40 steps); ``chain_steps`` is used to
    compare the models of the chain with each other. The student and both few-step baselines take ``sampler.few_steps``. Numbers
    of prompts are ours: they set how wide the intervals are.
    """

    seed: int = 2026  # of suites, noise and intervals; not the training seed, so that models of any seed meet the same prompts
    size: int = 256  # pixels
    kinds: list[str] = field(default_factory=lambda: ["one", "two", "count", "relation", "text"])
    prompts_per_kind: int = 100
    edit_kinds: list[str] = field(default_factory=lambda: ["recolor", "move", "add", "remove", "background", "word", "combine"])
    edits_per_kind: int = 40
    suites: list[str] = field(default_factory=list)  # names of conf/suites, files, `world` or `all`: drawn by the final models, docs/suites.md
    suite_prompts: int = 0  # at most so many of a suite, evenly spread; 0: all
    scorers: dict[str, str] = field(default_factory=dict)  # by protocol, where not a suite's own local one: rapidocr, URL#MODEL, a folder
    vae_world: int = 256  # held-out world images
    vae_photos: int = 64  # crops of held-out photographs
    photo_size: int = 256  # pixels of a photograph's crop
    steps: int = 40
    chain_steps: int = 40
    batch: int = 64
    workers: int = 0  # processes that draw on a CPU, each with one thread; 0: this one
    device: str = "cpu"  # where everything is drawn: cpu or cuda
    dtype: str = ""  # in which image models draw, e.g. bfloat16; as their files by default
    resamples: int = 1000
    shown: int = 10  # prompts and edits that appear in grids and in the report
    tracked: int = 6  # of these, how many go to the tracker as single pictures of every model
