import urllib.error
import warnings
from pathlib import Path

import pytest
import torch

from latenteditor.networks.perceptual import SMALLEST_IMAGE, load_perceptual_distance

WEIGHTS = Path(__file__).parents[3] / "shared" / "weights" / "lpips" / "lpips_alex_full.pth"


@pytest.fixture(scope="module")
def lpips_network() -> torch.nn.Module:
    """LPIPS on an AlexNet with random weights."""
    import lpips

    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        return lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)


@pytest.fixture(scope="module")
def weights(tmp_path_factory, lpips_network) -> Path:
    path = tmp_path_factory.mktemp("lpips") / "lpips.pth"
    torch.save(lpips_network.state_dict(), path)
    return path


def images(seed: int, size: int = SMALLEST_IMAGE) -> torch.Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(seed))


def test_the_distance_is_that_of_the_package(weights, lpips_network):
    distance = load_perceptual_distance(weights, "cpu")
    expected = lpips_network(images(0), images(1), normalize=True).flatten()
    torch.testing.assert_close(distance(images(0), images(1)), expected)
    assert (distance(images(0), images(0)) == 0).all()


def test_the_map_is_the_spatial_one_of_the_package(weights):
    import lpips

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spatial = lpips.LPIPS(net="alex", pnet_rand=True, spatial=True, verbose=False)
    spatial.load_state_dict(torch.load(weights, weights_only=True))
    distance = load_perceptual_distance(weights, "cpu")
    before = distance(images(0, 40), images(1, 40))
    found = distance.distance_map(images(0, 40), images(1, 40))
    assert found.shape == (2, 1, 40, 40)
    torch.testing.assert_close(found, spatial(images(0, 40), images(1, 40), normalize=True).detach())
    assert torch.equal(distance(images(0, 40), images(1, 40)), before)


def test_gradients_reach_the_image_and_not_the_network(weights):
    distance = load_perceptual_distance(weights, "cpu")
    image = images(0).requires_grad_()
    distance(image, images(1)).sum().backward()
    assert image.grad is not None
    assert image.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in distance._network.parameters())


def test_without_a_file_and_without_the_hub_both_ways_out_are_named(monkeypatch, tmp_path):
    def offline(*args, **kwargs):
        raise urllib.error.URLError("no such host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    with pytest.raises(ValueError, match=r"connect once, or pass a file with them by --pipeline\.model\.lpips-weights"):
        load_perceptual_distance(None, "cpu")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
def test_a_file_that_holds_something_else_is_refused(tmp_path, content):
    path = tmp_path / "lpips.pth"
    torch.save({"weight": torch.zeros(2)}, path) if content is None else path.write_bytes(content)
    with pytest.raises(ValueError, match=r"lpips\.pth holds no LPIPS weights .*: expected the state dict") as answer:
        load_perceptual_distance(path, "cpu")
    assert "\n" not in str(answer.value)


def test_a_file_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"There is no file .*missing\.pth of LPIPS weights: pass one by"):
        load_perceptual_distance(tmp_path / "missing.pth", "cpu")


@pytest.mark.skipif(not WEIGHTS.is_file(), reason="needs ../shared/weights/lpips")
def test_the_real_weights_find_a_blurred_image_nearer_than_one_of_noise():
    distance = load_perceptual_distance(WEIGHTS, "cpu")
    coarse = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    image = torch.nn.functional.interpolate(coarse, (64, 64), mode="bicubic").clamp(0, 1)
    blurred = torch.nn.functional.avg_pool2d(image, 3, stride=1, padding=1, count_include_pad=False)
    noisy = (image + 0.1 * torch.randn(image.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    assert 0 < distance(image, blurred) < distance(image, noisy)


@pytest.mark.skipif(not WEIGHTS.is_file(), reason="needs ../shared/weights/lpips")
def test_the_map_of_the_real_weights_is_high_where_the_images_differ():
    distance = load_perceptual_distance(WEIGHTS, "cpu")
    image = torch.nn.functional.interpolate(images(0, 8)[:1], (128, 128), mode="bicubic").clamp(0, 1)
    other = image.clone()
    other[..., :32] = images(1, 128)[:1, ..., :32]
    found = distance.distance_map(image, other)[0, 0]
    assert found[:, :32].mean() > 5 * found[:, 96:].mean()
    assert found.mean() == pytest.approx(distance(image, other).item(), rel=0.1)
