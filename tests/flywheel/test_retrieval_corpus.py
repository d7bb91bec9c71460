"""A run's training corpus is indexed once, without what its owners withdrew, and says what is scarce."""

from pathlib import Path

import numpy as np
import pytest

from qi2.core.errors import QI2Error
from qi2.core.rng import numpy_rng
from qi2.data.shards import ShardWriter
from qi2.data.world.captions import captions
from qi2.flywheel.retrieval.corpus import Corpus
from qi2.flywheel.retrieval.embed import Lexical, words
from tests.flywheel.retrieval_world import make_clip, make_raw, row, scenes, shows


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    make_raw(folder / "raw", 600)
    make_clip(folder / "standins" / "clip", folder / "standins" / "vlm")
    return folder


def test_neighbours_are_training_rows_with_what_is_known_of_them(runs: Path, tmp_path: Path) -> None:
    corpus = Corpus.open(runs, tmp_path, pictures=False)
    asked = corpus.rows["world-0"]["captions"][0]
    found = corpus.near([asked], k=5)[0]
    assert found[0].id == "world-0" and found[0].task == "t2i" and found[0].kind == "one" and len(found) == 5
    assert not {"mine"} & {one.id for one in corpus.near([asked], k=400)[0]} and "held-0" not in corpus.rows
    assert corpus.similarities([asked], 3)[0] == tuple(one.similarity for one in found[:3])


def test_a_picture_finds_itself_and_its_neighbours(runs: Path, tmp_path: Path) -> None:
    corpus = Corpus.open(runs, tmp_path)
    found = corpus.near(["anything", "else"], [corpus.image("world-3"), None], k=2)
    by_picture = [one for one in found[0] if one.by == "picture"]
    assert by_picture[0].similarity == pytest.approx(1, abs=1e-3) and "world-3" in {one.id for one in by_picture} and len(found[1]) == 2
    with pytest.raises(QI2Error, match="2 prompts came with 1"):
        corpus.near(["a", "b"], [None])


def test_only_new_rows_are_embedded_and_withdrawn_ones_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = scenes(12, "incremental", lambda scene: True)

    def write(n: int, withdrawn: int) -> None:
        with ShardWriter(tmp_path / "raw") as writer:
            for i in range(n):
                writer.add(row(f"r{i}", given[i], opt_out=i == withdrawn))

    write(8, -1)
    assert len(Corpus.open(tmp_path, tmp_path / "c", pictures=False).text[1]) == 8
    embedded: list[str] = []
    texts = Lexical.texts
    monkeypatch.setattr(Lexical, "texts", lambda self, asked: embedded.extend(asked) or texts(self, asked))
    write(12, 2)
    corpus = Corpus.open(tmp_path, tmp_path / "c", pictures=False)
    assert len(embedded) == 4 * 2 and len(corpus.text[1]) == 11 and not any(name.startswith("r2@") for name in corpus.text[1].ids)


def test_a_withheld_combination_is_called_scarce_and_others_are_not(runs: Path, tmp_path: Path) -> None:
    corpus = Corpus.open(runs, tmp_path, pictures=False)

    def prompts(n: int, purpose: str, withheld: bool) -> list[str]:
        return [captions(scene, numpy_rng(0, purpose), 1)[0] for scene in scenes(n, purpose, lambda scene: shows(scene) == withheld)]

    usual = prompts(60, "usual", False)
    lacking, fine = corpus.scarcity(prompts(20, "lacking", True), usual), corpus.scarcity(prompts(20, "fine", False), usual)
    shares = [np.mean([one.percentile <= 0.1 for one in group]) for group in (lacking, fine)]
    assert shares[0] >= 0.5 and shares[1] <= 0.2, shares
    assert np.mean([one.within for one in lacking]) < lacking[0].usual
    with pytest.raises(QI2Error, match="comparison"):
        corpus.scarcity(["a red circle"], [])


def test_words_keep_their_order_and_languages_without_spaces() -> None:
    assert words("Red star, red!") == ["red", "star", "red", "red star", "star red"]
    assert words("红色圆")[:3] == ["红", "色", "圆"]
    one = Lexical.fit(["a red circle", "a blue star"])
    assert np.isfinite(one.texts(["", "?!", "never seen"])).all() and one.weight("never") > one.weight("a")


def test_errors_say_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(QI2Error, match="knows no texts by 'x'"):
        Corpus.open(tmp_path, tmp_path / "c", text="x")
    with ShardWriter(tmp_path / "raw") as writer:
        writer.add(row("r", scenes(1, "none", lambda scene: True)[0], opt_out=True))
    with pytest.raises(QI2Error, match="no captioned training row"):
        Corpus.open(tmp_path, tmp_path / "c")
