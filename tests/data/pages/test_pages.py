"""Pages of text: what the ground truth says is what the picture shows."""

import json
import re
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageChops

from qi2.core.errors import QI2Error
from qi2.core.reporter import NullReporter
from qi2.core.rng import numpy_rng
from qi2.data.config import DataConfig
from qi2.data.ingest import ingest
from qi2.data.pages import fonts
from qi2.data.pages.captions import general_caption, structured_caption, text_caption
from qi2.data.pages.colors import contrast
from qi2.data.pages.compose import Composer, compose
from qi2.data.pages.config import PagesConfig
from qi2.data.pages.kinds import KINDS
from qi2.data.pages.languages import LANGUAGES, Writer, texts, title_split
from qi2.data.pages.layout import pieces
from qi2.data.pages.page import Page, draw_page
from qi2.data.pages.rows import page_row
from qi2.data.shards import Row, ShardWriter, Sidecar

SIZES = ((64, 64), (96, 80), (64, 192), (142, 315), (256, 256), (640, 260), (300, 512))


def _drawable() -> tuple[str, ...]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return fonts.drawable()
        except QI2Error:
            return ()


DRAWABLE = _drawable()
ONE_PER_SCRIPT = tuple({LANGUAGES[code].script: code for code in DRAWABLE}.values())  # of the Latin ones Vietnamese, with the highest letters
needs_font = pytest.mark.skipif(not DRAWABLE, reason="no text font on this machine; install fonts-dejavu-core")
each_language = pytest.mark.parametrize("code", [pytest.param(code, marks=() if code in DRAWABLE else pytest.mark.skip("no font")) for code in LANGUAGES])
each_kind = pytest.mark.parametrize("kind", list(KINDS))


def _composed(kind: str, code: str, size: tuple[int, int], seed: int = 0) -> Composer:
    return compose(numpy_rng(seed, f"test-{kind}-{code}", *size), kind, code, size, "any", ())


def _apart(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


@needs_font
@each_kind
def test_all_ink_lies_in_boxes_that_lie_in_the_page_and_apart(kind: str) -> None:
    for code in ONE_PER_SCRIPT:
        for size in SIZES:
            composer = _composed(kind, code, size)
            assert any(block.role == "title" for block in composer.blocks), (code, size)
            boxes = [block.box for block in composer.blocks]
            assert all(0 <= left < right <= size[0] and 0 <= top < bottom <= size[1] for left, top, right, bottom in boxes), (code, size)
            assert all(_apart(one, other) for i, one in enumerate(boxes) for other in boxes[:i]), (code, size)
            ink = ImageChops.difference(composer.written(), composer.image).convert("L").point(lambda value: 255 * (value > 0))
            assert all(ink.crop(box).getbbox() for box in boxes), (code, size)
            for box in boxes:
                ink.paste(0, box)
            assert ink.getbbox() is None, (code, size)


@needs_font
@each_kind
def test_text_stands_out_from_every_pixel_behind_it(kind: str) -> None:
    for seed in range(12):
        composer = _composed(kind, DRAWABLE[seed % len(DRAWABLE)], (256, 320), seed)
        for block in composer.blocks:
            behind = composer.image.crop(block.box).getcolors(100_000) or []
            assert {color for _, color in behind} == {block.ground}
            assert contrast(block.color, block.ground) >= 3


@needs_font
def test_capitals_are_nine_pixels_high_at_the_smallest_size() -> None:
    for regular, _ in fonts.families(DRAWABLE[0]):
        smallest = min(block.size for kind in KINDS for block in _composed(kind, DRAWABLE[0], (128, 128)).blocks)
        top, bottom = regular.at(smallest).getbbox("H")[1::2]
        assert bottom - top >= 9


@each_language
def test_every_language_draws_covered_strings_in_its_own_script(code: str) -> None:
    known = {face.family for pair in fonts.families(code) for face in pair}
    for kind in KINDS:
        for block in _composed(kind, code, (256, 256)).blocks:
            assert block.font in known
            assert (block.language, block.script) == (code, LANGUAGES[code].script)
            faces = [face for face in fonts.faces() if face.family == block.font]
            assert any(face.covers(block.text) for face in faces)
            assert re.sub(r"\s", "", "".join(block.lines)) == re.sub(r"\s", "", block.text)


@each_language
def test_a_long_page_holds_many_sentences_and_none_twice(code: str) -> None:
    pages = [draw_page(numpy_rng(seed, "long"), "paragraph", code, (1024, 1024))[1] for seed in range(3)]
    body = max(("".join(block.text for block in page.blocks if block.role == "text") for page in pages), key=len)
    assert len(body) / LANGUAGES[code].letters_per_token > 700
    writer = Writer(numpy_rng(0, "sentences"), code)
    sentences = writer.prose(1000)
    assert len(set(sentences)) == len(sentences) > 40 and len(set(texts(code)["nouns"])) >= 60


@pytest.mark.skipif("he" not in DRAWABLE, reason="no Hebrew font or no raqm")
def test_hebrew_starts_at_the_right() -> None:
    page = draw_page(numpy_rng(0, "rtl"), "paragraph", "he", (300, 300))[1]
    assert all(block.direction == "rtl" and block.box[2] > 270 for block in page.blocks)


@pytest.mark.skipif("ja" not in DRAWABLE, reason="no Japanese font")
@pytest.mark.skipif(not fonts.has_raqm(), reason="no raqm")
def test_vertical_japanese_runs_in_columns_from_the_right() -> None:
    pages = [draw_page(numpy_rng(seed, "ttb"), "paragraph", "ja", (300, 300))[1] for seed in range(8)]
    vertical = [page for page in pages if page.blocks[0].direction == "ttb"]
    assert 0 < len(vertical) < 8
    assert all(page.blocks[0].box[0] >= page.blocks[1].box[2] for page in vertical)


def test_thai_and_chinese_never_break_inside_a_cluster_or_before_a_full_stop() -> None:
    for text in ("น้ำผึ้งที่เรือใหญ่ เปิดทุกวัน", *texts("th")["phrases"]):
        parts = pieces(text, False, "th")
        assert "".join(parts) == text and len(parts) > 1
        assert not any(re.match("[\u0e30-\u0e3a\u0e45-\u0e4e]", part) or part[-1] in "เแโใไ" for part in parts)
    assert pieces("ข้าวและรถไฟ", False, "th") == ["ข้าว", "และ", "รถไฟ"]
    assert pieces("早上，老师喝热茶。", False, "zh") == ["早", "上，", "老", "师", "喝", "热", "茶。"]


@needs_font
def test_json_and_sidecar_keep_a_page_exactly(tmp_path: Path) -> None:
    row = page_row(3, PagesConfig(sizes=[128, 256]), 0, "train")
    with ShardWriter(tmp_path) as writer:
        writer.add(row)
        writer.add(Row("other", row.data, "png", ()))
    pages = list(Sidecar.load(tmp_path).table["page"])
    assert pages == [row.page, None]
    assert Page.from_json(pages[0]).to_json() == row.page


@needs_font
def test_rows_depend_on_seed_and_number_alone_and_splits_share_no_title() -> None:
    config = PagesConfig(sizes=[64, 128, 192], languages=dict.fromkeys(DRAWABLE[:5], 1.0))
    train, again = ([page_row(number, config, 0, "train") for number in range(30)] for _ in range(2))
    held = [page_row(number, config, 0, "heldout") for number in range(15)]
    assert train == again and train[7] == page_row(7, config, 0, "train")
    assert train[7].data != page_row(7, config, 1, "train").data
    titles = [{Page.from_json(str(row.page)).title for row in rows} for rows in (train, held)]
    assert titles[0].isdisjoint(titles[1])
    assert {title_split(title) for title in titles[1]} == {"heldout"} and {title_split(title) for title in titles[0]} == {"train"}
    assert len({row.id for row in train + held}) == 45


@needs_font
@each_kind
def test_captions_quote_every_text_in_reading_order(kind: str) -> None:
    page = draw_page(numpy_rng(1, "captions"), kind, DRAWABLE[0], (320, 320))[1]
    caption, start = text_caption(page), 0
    for block in page.blocks:
        start = caption.index(f"“{block.text}”", start)
    assert page.title in general_caption(page) and LANGUAGES[DRAWABLE[0]].name in general_caption(page)
    blocks = json.loads(structured_caption(page))["blocks"]
    assert [block["text"] for block in blocks] == [block.text for block in page.blocks]
    assert all(0 <= edge <= 1 for block in blocks for edge in block["box"])


@pytest.mark.skipif("en" not in DRAWABLE, reason="no Latin font")
def test_a_receipt_says_its_true_sum() -> None:
    page = draw_page(numpy_rng(0, "receipt"), "receipt", "en", (512, 512))[1]
    amounts = {role: [float(block.text.strip("$")) for block in page.blocks if block.role == role] for role in ("price", "total")}
    assert len(amounts["price"]) >= 2 and sum(amounts["price"]) == pytest.approx(amounts["total"][0])


def test_a_machine_without_fonts_is_told_which_packages_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "FOLDERS", ())
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    folders = (str(tmp_path),)
    missing = fonts.missing_scripts(folders)
    assert set(missing) >= {language.script for language in LANGUAGES.values()}
    assert "fonts-noto-cjk" in missing["Han"] and "fonts-dejavu-core" in missing["Latin"]
    with pytest.raises(QI2Error, match="fonts-dejavu-core"):
        draw_page(numpy_rng(0, "x"), "slide", "en", (128, 128), folders=folders)


def test_scripts_that_join_letters_are_left_out_without_raqm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts.features, "check", lambda name: False)
    missing = fonts.missing_scripts((str(tmp_path),))
    assert all("libfribidi0" in missing[name] for name in (*fonts.COMPLEX, "vertical Japanese"))


@needs_font
def test_wrong_requests_are_named() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(QI2Error, match="no page kind 'menu'"):
        draw_page(rng, "menu", DRAWABLE[0], (128, 128))
    with pytest.raises(QI2Error, match="at most 1:3"):
        draw_page(rng, "slide", DRAWABLE[0], (64, 256))
    with pytest.raises(QI2Error, match="'xx'"):
        page_row(0, PagesConfig(languages={"xx": 1.0}), 0, "train")
    assert isinstance(draw_page(rng, "slide", DRAWABLE[0], (64, 64))[0], Image.Image)


@needs_font
def test_ingest_draws_the_pages_asked_for_beside_a_users_images(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    Image.new("RGB", (96, 96), "red").save(tmp_path / "own" / "red.png")
    data = DataConfig(source=str(tmp_path / "own"), workers=1)
    data.pages = PagesConfig(count=5, heldout=2, sizes=[96, 128])
    ingest(SimpleNamespace(seed=0, data=data), tmp_path / "raw", NullReporter())
    rows = Sidecar.load(tmp_path / "raw").table
    pages = rows[rows["source"] == "synthetic"]
    assert set(rows["source"]) == {"user", "synthetic"}
    assert pages["split"].value_counts().to_dict() == {"train": 5, "heldout": 2}
    assert all(Page.from_json(text).size == size for text, size in zip(pages["page"], zip(pages["width"], pages["height"], strict=True), strict=True))
