"""PSNR and SSIM of images in [0, 1], per image (report, Table 1)."""

import torch
from torch import Tensor
from torch.nn import functional as F

WINDOW, SIGMA = 11, 1.5  # of the SSIM paper (Wang et al. 2004)
C1, C2 = 0.01**2, 0.03**2


def psnr(images: Tensor, others: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of (B, 3, H, W) pairs, shape (B,); at most 100 for equal images."""
    error = (images - others).square().flatten(1).mean(1)
    return -10 * error.clamp_min(1e-10).log10()


def ssim(images: Tensor, others: Tensor) -> Tensor:
    """Structural similarity of (B, 3, H, W) pairs, shape (B,): Gaussian window, mean over channels and the places where it fits."""
    offsets = torch.arange(WINDOW) - WINDOW // 2
    line = torch.exp(-(offsets**2) / (2 * SIGMA**2)).to(images)
    kernel = torch.outer(line, line)
    kernel = (kernel / kernel.sum()).expand(images.shape[1], 1, WINDOW, WINDOW)

    def mean(x: Tensor) -> Tensor:
        return F.conv2d(x, kernel, groups=x.shape[1])

    m, n = mean(images), mean(others)
    variance, other_variance = mean(images**2) - m**2, mean(others**2) - n**2
    covariance = mean(images * others) - m * n
    luminance = (2 * m * n + C1) / (m**2 + n**2 + C1)
    structure = (2 * covariance + C2) / (variance + other_variance + C2)
    return (luminance * structure).flatten(1).mean(1)
