"""PSNR and SSIM agree with scikit-image, and grids carry the checker's marks."""

import numpy as np
import torch
from PIL import Image
from skimage.metrics import structural_similarity

from qi2.evaluation.fidelity import psnr, ssim
from qi2.evaluation.grids import BAD, GOOD, Cell, grid


def test_psnr_of_a_known_error() -> None:
    images = torch.full((2, 3, 16, 16), 0.5)
    assert torch.allclose(psnr(images, images + 0.1), torch.tensor([20.0, 20.0]), atol=1e-3)
    assert psnr(images, images)[0] == 100


def test_ssim_agrees_with_scikit_image() -> None:
    rng = np.random.default_rng(0)
    one = rng.random((64, 48, 3)).astype(np.float32)
    other = np.clip(one + 0.2 * rng.normal(size=one.shape), 0, 1).astype(np.float32)
    options = {"channel_axis": 2, "data_range": 1.0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    theirs = structural_similarity(one, other, full=True, **options)[1][5:-5, 5:-5].mean()
    ours = ssim(*(torch.from_numpy(x).permute(2, 0, 1)[None] for x in (one, other)))
    assert abs(float(ours[0]) - theirs) < 1e-4


def test_grid_marks_right_and_wrong_and_leaves_missing_cells_empty() -> None:
    picture = Image.new("RGB", (64, 64), "yellow")
    sheet = grid(["a", "b", "c"], [("prompt", [Cell(picture, True), Cell(picture, False), None])], side=64)
    colours = {colour for _, colour in sheet.getcolors(1 << 16) or []}
    assert {GOOD, BAD} <= colours
    assert sheet.crop((sheet.width - 64, 30, sheet.width, sheet.height)).getcolors() == [(64 * (sheet.height - 30), (255, 255, 255))]
