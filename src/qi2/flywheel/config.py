"""Parameters of the data flywheel (report section 2.4). Torch-free.

The report names signals, attribution, three tracks, human review and the next round, and gives no rule or number: all of them are ours.
"""

from dataclasses import dataclass, field

from qi2.data.captions.config import CaptionConfig


@dataclass
class ProbesConfig:
    """The tests that are run on failing prompts. Numbers are pictures per failing prompt."""

    model: str = ""  # the stage whose failures are tested: distill, rlhf, sft; "": the last of the chain that exists
    samples: int = 8  # with its own prompt and sampler, other noise
    variant: int = 4  # with lower guidance, with higher guidance, and with more steps, each
    low: float = 0.5  # factor of the guidance
    high: float = 2.0
    more: float = 2.0  # factor of the steps
    paraphrases: int = 4  # other wordings ...
    each: int = 2  # ... and pictures of each
    paraphraser: str = ""  # a chat model (folder or hub id) that rewords where the truth is not known; "": none
    neighbours: int = 8  # nearest training samples
    steps: int = 0  # of the sampler of a many-step model; 0: evaluate.chain_steps
    most: int = 240  # failing prompts that one round tests, as many of every kind
    batch: int = 50
    workers: int = 0  # processes that draw on a CPU, each with one thread; 0: this one
    seed: int = 7041  # of noise and choices; not the evaluation's, so that its noise is not drawn again
    judged: int = 200  # training pairs that the reward's threshold is calibrated on, where the truth is not known


@dataclass
class MiningConfig:
    """How bad cases are looked for among pictures of training prompts, and what counts as bad; the report names such cases and no threshold.

    A learned reward is low in the lowest ``low`` of its scores on a kind. Two judges disagree where one puts a picture among its best ``disagree`` and the
    other among its worst; the checker, where it has a truth, is right or wrong and disagrees with a reward that puts a wrong picture among its best.
    """

    prompts: int = 0  # training prompts that one round draws, as many of every kind; 0: no mining
    pictures: int = 1  # of each
    edit_share: float = 0.3  # of the prompts are edits
    low: float = 0.1
    disagree: float = 0.25
    least: int = 8  # pictures of a kind below which shares of them say nothing
    ocr: bool = False  # quoted texts of which no truth is known are read by RapidOCR (the extra ``ocr``)
    seed: int = 7053  # of prompts and noise; every round draws others


@dataclass
class DecideConfig:
    """How evidence becomes a decision. ``error``: the chance of a wrong act in a round in which nothing is wrong, over all groups and tests."""

    error: float = 0.05
    never: float = 0.2  # a success rate that lies below this beyond chance counts as never
    mostly: float = 0.5  # one that does not lie below this beyond chance counts as bad luck of one noise
    gain: float = 0.15  # the least that another wording must add, beyond being significant
    least: int = 5  # failing prompts of one group before anything is done about them
    few: int = 3  # training prompts that have what a group has in common: no more than that is missing knowledge
    tolerate: float = 0.1  # share of a kind's prompts that may fail for one cause, where it is known how many were tried


@dataclass
class RLTrackConfig:
    """How far a round may move RLHF: ``most`` is a factor of what is configured, ``total`` one over all rounds."""

    strength: float = 1.0  # a kind with all of the failures gets 1 + strength times its weight
    most: float = 2.0
    total: float = 4.0
    share: float = 0.5  # of all reward weight that rewards which see what failed should have at least


@dataclass
class PromptTrackConfig:
    """What the prompt track hands to the enhancer."""

    least: int = 3  # failures that have to agree before a wording becomes a strategy
    examples: int = 400  # triplets at most


@dataclass
class ReviewConfig:
    """The one manual step. ``mode``: a person sees every candidate, a share of them (where enough of it is accepted, the rest is), or nobody."""

    mode: str = "person"  # sampled, waived
    share: float = 0.1
    agreement: float = 0.95  # of the sampled ones have to be accepted before the rest is taken unseen


@dataclass
class FlywheelConfig:
    """One round: signals, attribution, tracks, review, training, evaluation, report."""

    sources: list[str] = field(default_factory=lambda: ["evaluation", "mining", "votes", "feedback", "training"])
    mining: MiningConfig = field(default_factory=MiningConfig)
    probes: ProbesConfig = field(default_factory=ProbesConfig)
    decide: DecideConfig = field(default_factory=DecideConfig)
    rl: RLTrackConfig = field(default_factory=RLTrackConfig)
    prompts: PromptTrackConfig = field(default_factory=PromptTrackConfig)
    review: ReviewConfig = field(default_factory=ReviewConfig)
    captions: CaptionConfig = field(default_factory=CaptionConfig)  # who captions unused rows anew before review; without a path they keep their own
    candidates: int = 300  # that the pre-training track makes in one round
    rounds: int = 3  # at most, in one call and before a person looks again
