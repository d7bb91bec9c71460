"""Where networks are put."""

import pytest
import torch

from qi2.core.errors import QI2Error
from qi2.models.storage import device_of


def test_cuda_is_the_gpu_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    for name in ("LOCAL_RANK", "SLURM_LOCALID"):
        monkeypatch.delenv(name, raising=False)
    assert device_of("cuda") == torch.device("cuda", 0)
    monkeypatch.setenv("SLURM_LOCALID", "2")
    assert device_of("cuda") == torch.device("cuda", 2)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert device_of("cuda") == torch.device("cuda", 3)
    assert device_of("cuda:1") == torch.device("cuda", 1), "an asked-for GPU stays"
    monkeypatch.setenv("LOCAL_RANK", "5")
    assert device_of("cuda") == torch.device("cuda", 1), "a launcher that shows each process its own GPUs"


def test_a_device_that_is_not_here_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(QI2Error, match="no device cuda here"):
        device_of("cuda")
    with pytest.raises(QI2Error, match="unknown device 'gpu'"):
        device_of("gpu")
