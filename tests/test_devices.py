"""In which numbers a machine computes."""

import pytest
import torch

from latenteditor import devices


@pytest.fixture(autouse=True)
def anew():
    """Measures again, and leaves nothing behind of what a test pretended."""
    devices.is_slow_in_half.cache_clear()
    yield
    devices.is_slow_in_half.cache_clear()


@pytest.mark.parametrize(("factor", "dtype"), [(20.0, torch.float32), (0.7, torch.bfloat16)])
def test_a_cpu_that_is_slow_in_16_bits_computes_in_32_and_says_so_once(factor, dtype, monkeypatch, warnings):
    monkeypatch.setattr(devices, "_seconds", lambda layer, image: factor if image.dtype == torch.bfloat16 else 1.0)
    assert devices.half_dtype("cpu") == devices.half_dtype("cpu", overflows_in_half=True) == dtype
    said = warnings()
    assert len(said) == (dtype == torch.float32)
    assert all("20 times longer" in line and "32 bits" in line for line in said)


def test_an_accelerator_is_not_asked():
    assert devices.half_dtype("cuda") == torch.float16
    assert devices.half_dtype("cuda", overflows_in_half=True) == torch.bfloat16
    assert devices.is_slow_in_half.cache_info().misses == 0


def test_this_machine_is_measured_in_a_moment():
    assert isinstance(devices.is_slow_in_half(), bool)
