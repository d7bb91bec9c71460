"""Each one-picture measure orders good before bad, and its threshold refuses the bad one only."""

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from qi2.data.curate_config import StageThresholds
from qi2.data.filters import aesthetic, compression, entropy, quality, resolution, rotation
from qi2.data.filters.base import Filter, Picture
from qi2.data.filters.broken import decode
from qi2.data.filters.registry import FILTERS, measure
from qi2.data.photos import PHOTOS, load
from qi2.data.world.defects import encode_jpeg, encode_png
from tests.data.conftest import blank_table


def _picture(image: Image.Image) -> Picture:
    return decode(encode_png(image))


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return load(PHOTOS[0]).crop((100, 50, 356, 250))


def _noise(side: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8))


def test_filters_stand_in_the_report_order_after_opt_out() -> None:
    names = [item.name for item in FILTERS]
    stage1 = ["broken", "resolution", "exact_duplicate", "near_duplicate", "semantic_duplicate", "nsfw", "rotation", "upright"]
    stage1 += ["entropy", "clip", "token_length"]
    pairs = ["pair_mask", "pair_unchanged", "pair_spill", "pair_unrelated"]  # ours, of the edits that stage 2 adds
    assert names == ["opt_out", *stage1, *pairs, "quality", "aesthetic", "compression"]


def test_one_pass_measures_every_column_that_filters_read(photo: Image.Image) -> None:
    columns = set(measure(_picture(photo)))
    assert columns >= {"short_side", "pixel_sha256", "thumbnail", "orientation", "entropy", "sharpness", "aesthetic", "blockiness"}


def test_entropy_separates_flat_photo_and_noise(photo: Image.Image) -> None:
    flat, real, noise = (entropy.measure(_picture(image)) for image in (Image.new("RGB", (64, 64), "blue"), photo, _noise()))
    assert flat["entropy"] == 0
    assert noise["difference_entropy"] > real["difference_entropy"] + 1
    assert abs(noise["entropy"] - real["entropy"]) < 1.5  # the histogram alone does not tell noise from a photograph


def test_sharpness_falls_with_blur_and_sees_edges_of_equal_luminance(photo: Image.Image) -> None:
    blurred = photo.filter(ImageFilter.GaussianBlur(4))
    assert quality.measure(_picture(blurred))["sharpness"] < 0.3 * quality.measure(_picture(photo))["sharpness"]
    square = Image.new("RGB", (64, 64), (150, 45, 185))
    square.paste((86, 86, 86), (16, 16, 48, 48))
    assert quality.measure(_picture(square))["sharpness"] > 10


def test_aesthetic_stand_in_prefers_colour(photo: Image.Image) -> None:
    gray = photo.convert("L").convert("RGB")
    assert aesthetic.measure(_picture(gray))["aesthetic"] < 1 < aesthetic.measure(_picture(photo))["aesthetic"]


@pytest.mark.parametrize("quality_set", [10, 40, 75, 95])
def test_jpeg_quality_is_read_from_the_tables(photo: Image.Image, quality_set: int) -> None:
    tables = decode(encode_jpeg(photo, quality_set)).tables
    assert abs(compression.jpeg_quality(tables) - quality_set) <= 3
    assert compression.jpeg_quality({}) == 100


def test_blockiness_survives_saving_a_bad_jpeg_as_png(photo: Image.Image) -> None:
    bad = Image.open(io.BytesIO(encode_jpeg(photo, 5))).convert("RGB")
    assert compression.measure(_picture(photo))["blockiness"] < 0.1 < compression.measure(_picture(bad))["blockiness"]


CASES: list[tuple[Filter, StageThresholds, dict[str, list[float]]]] = [
    (resolution.FILTER, StageThresholds(sides=[64, 128]), {"short_side": [64, 63]}),
    (rotation.FILTER, StageThresholds(rotation="reject"), {"orientation": [1, 6]}),
    (entropy.FILTER, StageThresholds(min_entropy=0.5), {"entropy": [0.5, 0.4]}),
    (entropy.FILTER, StageThresholds(max_entropy=7.0), {"difference_entropy": [7.0, 7.1]}),
    (quality.FILTER, StageThresholds(min_sharpness=4.0), {"sharpness": [4.0, 3.9]}),
    (aesthetic.FILTER, StageThresholds(min_aesthetic=5.0), {"aesthetic": [5.0, 4.9]}),
    (compression.FILTER, StageThresholds(min_quality=60), {"jpeg_quality": [60, 59]}),
    (compression.FILTER, StageThresholds(max_blockiness=0.3), {"blockiness": [0.3, 0.4]}),
]


@pytest.mark.parametrize(("item", "limits", "columns"), CASES, ids=lambda value: getattr(value, "name", ""))
def test_a_threshold_refuses_what_lies_beyond_it(item: Filter, limits: StageThresholds, columns: dict[str, list[float]]) -> None:
    assert item.rejects(blank_table(2, **columns), limits).tolist() == [False, True]
    assert not item.rejects(blank_table(2, **columns), StageThresholds()).any()


def test_rotated_pictures_stay_where_rotation_is_corrected() -> None:
    table = blank_table(2, orientation=[1, 6])
    assert not rotation.FILTER.rejects(table, StageThresholds(rotation="correct")).any()
