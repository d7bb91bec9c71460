"""Which scorer a suite's protocol gets: a local one by name, a served model by URL, or a model's folder."""

from qi2.core.errors import QI2Error
from qi2.core.served import ServedVLM, is_url
from qi2.evaluation.aggregate.registry import CRITERIA
from qi2.evaluation.scorers.base import Scorer
from qi2.evaluation.scorers.vlm import VLM, VLMScorer
from qi2.evaluation.suites.suite import Suite

LOCAL = {"world": ("detector", "ocr", "judge", "vqa"), "rapidocr": ("ocr",)}
GIVE = "write --scorer {0}=URL#MODEL for a served model, or --scorer {0}=FOLDER for one of transformers"


def open_scorer(suite: Suite, named: str = "", device: str = "cpu") -> Scorer:
    """``named`` is ``world``, ``rapidocr``, ``URL#MODEL`` or a model's folder; by default the suite's own local scorer.

    Raises QI2Error where there is none, or it does not speak the suite's protocol.
    """
    protocol, named = suite.config.scorer, named or suite.config.local
    if not named:
        raise QI2Error(f"suite {suite.name} needs a scorer of protocol {protocol} and has no local one; {GIVE.format(protocol)}")
    if named in LOCAL:
        if protocol not in LOCAL[named]:
            raise QI2Error(f"{named} does not speak the protocol {protocol} of suite {suite.name}; {GIVE.format(protocol)}")
        return _local(named, suite)
    if protocol == "similarity":
        from qi2.evaluation.scorers.local import ClipSimilarity

        return ClipSimilarity(named, device)
    return _vlm(named, suite, device)


def _local(named: str, suite: Suite) -> Scorer:
    if named == "rapidocr":
        from qi2.evaluation.scorers.rapidocr import RapidReader

        return RapidReader()
    if suite.config.scorer == "judge":
        from qi2.evaluation.scorers.world_judge import WorldJudge

        return WorldJudge(suite)
    if suite.config.scorer == "vqa":
        from qi2.evaluation.scorers.world_answers import WorldAnswers

        return WorldAnswers(suite)
    from qi2.evaluation.scorers.world import WorldDetector, WorldReader

    return WorldDetector() if suite.config.scorer == "detector" else WorldReader()


def open_vlm(named: str, device: str = "cpu") -> VLM:
    """A vision-language model: ``URL#MODEL`` of a server of chat completions, or a folder of transformers."""
    if is_url(named):
        return ServedVLM.of(named)
    from qi2.evaluation.scorers.local import LocalVLM

    return LocalVLM(named, device)


def _vlm(named: str, suite: Suite, device: str) -> Scorer:
    return VLMScorer(open_vlm(named, device), suite.config.scorer, CRITERIA.get(suite.config.aggregate))
