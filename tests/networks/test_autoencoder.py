import json
from pathlib import Path

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from safetensors.torch import save_file

from latenteditor import devices
from latenteditor.networks import autoencoder as autoencoder_module
from latenteditor.networks.autoencoder import load_autoencoder, read_autoencoder_config, working_size

TAESD = Path(__file__).parents[3] / "shared" / "weights" / "taesd"
FOX = Path(__file__).parents[3] / "shared" / "data" / "fox"


def save_kl(folder: Path, channels: int = 4, **config) -> AutoencoderKL:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = AutoencoderKL(
            block_out_channels=(8, 8, 8),
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            norm_num_groups=4,
            latent_channels=channels,
            sample_size=32,
            **config,
        )
    network.save_pretrained(folder)
    return network.eval()


def save_tiny(folder: Path) -> AutoencoderTiny:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = AutoencoderTiny(
            encoder_block_out_channels=(8, 8, 8),
            decoder_block_out_channels=(8, 8, 8),
            num_encoder_blocks=(1, 1, 1),
            num_decoder_blocks=(1, 1, 1),
        )
    network.save_pretrained(folder)
    return network.eval()


def some_images(views: int = 2, height: int = 16, width: int = 24) -> torch.Tensor:
    return torch.rand(views, 3, height, width, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_latents_are_the_shifted_and_scaled_posterior_mode(tmp_path):
    network = save_kl(tmp_path, scaling_factor=0.5, shift_factor=0.25)
    images = some_images()
    mode = network.encode(2 * images - 1).latent_dist.mode()  # type: ignore[union-attr]
    torch.testing.assert_close(load_autoencoder(str(tmp_path), "cpu").encode(images), (mode - 0.25) * 0.5)


@torch.no_grad()
def test_decoding_undoes_shift_and_scale(tmp_path):
    network = save_kl(tmp_path, scaling_factor=0.5, shift_factor=0.25)
    images = some_images()
    mode = network.encode(2 * images - 1).latent_dist.mode()  # type: ignore[union-attr]
    expected = ((network.decode(mode).sample + 1) / 2).clamp(0, 1)  # type: ignore[union-attr]
    autoencoder = load_autoencoder(str(tmp_path), "cpu")
    torch.testing.assert_close(autoencoder.decode(autoencoder.encode(images)), expected)


@torch.no_grad()
def test_a_tiny_autoencoders_latents_are_scaled_already(tmp_path):
    network = save_tiny(tmp_path)
    images = some_images()
    expected = network.encode(2 * images - 1).latents  # type: ignore[union-attr]
    torch.testing.assert_close(load_autoencoder(str(tmp_path), "cpu").encode(images), expected)


def test_a_config_without_scaling_factor_means_its_classs_default(tmp_path):
    save_kl(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    default = config.pop("scaling_factor")
    path.write_text(json.dumps(config))
    images = some_images()
    unscaled = load_autoencoder(str(tmp_path), "cpu").encode(images) / default
    path.write_text(json.dumps(config | {"scaling_factor": 1.0}))
    torch.testing.assert_close(load_autoencoder(str(tmp_path), "cpu").encode(images), unscaled)


@pytest.mark.parametrize("channels", [4, 16])
def test_channels_and_factor_come_from_the_config(tmp_path, channels):
    save_kl(tmp_path, channels)
    autoencoder = load_autoencoder(str(tmp_path), "cpu")
    latents = autoencoder.encode(some_images())
    assert (autoencoder.channels, autoencoder.factor) == (channels, 4)
    assert latents.shape == (2, channels, 4, 6)
    assert autoencoder.decode(latents).shape == (2, 3, 16, 24)


def test_chunks_change_nothing(tmp_path, monkeypatch):
    save_kl(tmp_path)
    autoencoder = load_autoencoder(str(tmp_path), "cpu")
    images = some_images(views=5)
    together = autoencoder.decode(autoencoder.encode(images))
    monkeypatch.setattr(autoencoder_module, "PIXELS_PER_CHUNK", 2 * 16 * 24)
    torch.testing.assert_close(autoencoder.decode(autoencoder.encode(images)), together)


def test_decoded_images_lie_between_zero_and_one(tmp_path):
    save_tiny(tmp_path)
    latents = 100 * torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    images = load_autoencoder(str(tmp_path), "cpu").decode(latents)
    assert images.min() >= 0
    assert images.max() <= 1


def test_gradients_flow_to_latents_and_to_no_weight(tmp_path):
    save_tiny(tmp_path)
    autoencoder = load_autoencoder(str(tmp_path), "cpu")
    latents = torch.zeros(1, 4, 4, 4, requires_grad=True)
    autoencoder.decode(latents).sum().backward()
    assert latents.grad is not None
    assert not any(weight.requires_grad for weight in autoencoder._network.parameters())


def test_sizes_are_read_without_weights(tmp_path):
    save_kl(tmp_path, channels=16)
    (tmp_path / "diffusion_pytorch_model.safetensors").unlink()
    config = read_autoencoder_config(str(tmp_path))
    assert (config.channels, config.factor, config.subfolder) == (16, 4, "")


def test_a_pipelines_vae_is_found(tmp_path):
    save_kl(tmp_path / "vae")
    (tmp_path / "model_index.json").write_text("{}")
    assert read_autoencoder_config(str(tmp_path)).subfolder == "vae"
    assert load_autoencoder(str(tmp_path), "cpu").encode(some_images()).shape == (2, 4, 4, 6)


def test_half_precision_on_a_cpu_gives_back_the_precision_it_got(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "is_slow_in_half", lambda: False)
    save_tiny(tmp_path)
    autoencoder = load_autoencoder(str(tmp_path), "cpu", half_precision=True)
    full = load_autoencoder(str(tmp_path), "cpu").encode(some_images())
    latents = autoencoder.encode(some_images())
    assert autoencoder.dtype == torch.bfloat16
    assert latents.dtype == torch.float32
    assert (latents - full).abs().max() < 0.05 * full.abs().max()


def test_the_fingerprint_follows_weights_and_precision(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "is_slow_in_half", lambda: False)
    network = save_tiny(tmp_path)
    before = load_autoencoder(str(tmp_path), "cpu").fingerprint
    assert load_autoencoder(str(tmp_path), "cpu").fingerprint == before
    assert load_autoencoder(str(tmp_path), "cpu", half_precision=True).fingerprint != before
    state = {name: value.clone() for name, value in network.state_dict().items()}
    next(value for name, value in state.items() if name.startswith("encoder"))[0] += 1
    save_file(state, tmp_path / "diffusion_pytorch_model.safetensors")
    assert load_autoencoder(str(tmp_path), "cpu").fingerprint != before


def test_images_that_are_no_multiple_of_a_cell_are_refused(tmp_path):
    save_kl(tmp_path)
    with pytest.raises(ValueError, match="24x15 pixels: both sides must be multiples of 4"):
        load_autoencoder(str(tmp_path), "cpu").encode(some_images(height=15))


def test_a_folder_without_autoencoder_is_named(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "UNet2DConditionModel"}))
    with pytest.raises(ValueError, match="no autoencoder in .*expected a diffusers pipeline with a vae/ subfolder"):
        load_autoencoder(str(tmp_path), "cpu")


def test_missing_weights_are_named(tmp_path):
    save_kl(tmp_path)
    (tmp_path / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ValueError, match="weights of the autoencoder of .* could not be read"):
        load_autoencoder(str(tmp_path), "cpu")


def test_a_class_that_diffusers_lacks_is_named(tmp_path):
    (tmp_path / "config.json").write_text(
        json.dumps({"_class_name": "AutoencoderOfTomorrow", "latent_channels": 4, "block_out_channels": [8, 8]})
    )
    with pytest.raises(ValueError, match="AutoencoderOfTomorrow, which diffusers .* does not have"):
        load_autoencoder(str(tmp_path), "cpu")


def test_an_unreachable_hub_is_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match="hub cannot be reached: pass a local folder"):
        load_autoencoder("nobody/nothing", "cpu")


def test_a_mistyped_folder_is_a_sentence():
    with pytest.raises(ValueError, match="neither an existing folder nor a hub id"):
        load_autoencoder("/there/is/no/such/folder", "cpu")


@pytest.mark.skipif(
    not (TAESD.is_dir() and FOX.is_dir()), reason="needs ../shared/weights/taesd and ../shared/data/fox"
)
def test_a_real_autoencoder_keeps_a_photograph():
    import numpy as np
    from PIL import Image

    path = sorted((FOX / "images").glob("*.jpg"))[0]
    photograph = torch.from_numpy(np.array(Image.open(path).resize((288, 512)))).permute(2, 0, 1)[None] / 255
    autoencoder = load_autoencoder(str(TAESD), "cpu")
    error = (autoencoder.decode(autoencoder.encode(photograph)) - photograph).square().mean()
    assert -10 * error.log10() > 25


def test_saving_the_holder_of_an_autoencoder_saves_no_weight_of_it(tmp_path):
    save_tiny(tmp_path)
    holder = torch.nn.Module()
    holder.autoencoder = load_autoencoder(str(tmp_path), "cpu")  # type: ignore[assignment]
    assert not holder.state_dict()


@pytest.mark.parametrize(
    ("native", "image_size", "factor", "expected"),
    [
        ((1920, 1080), 512, 8, (512, 288)),
        ((512, 512), 512, 8, (512, 512)),
        ((1080, 1920), None, 8, (1080, 1920)),
        ((1000, 750), 512, 8, (512, 384)),
        ((101, 77), None, 8, (104, 80)),
        ((300, 10), 64, 8, (64, 8)),
    ],
)
def test_the_long_side_is_as_asked_and_both_are_multiples_of_a_cell(native, image_size, factor, expected):
    assert working_size(*native, image_size, factor) == expected


def test_an_image_smaller_than_a_cell_is_refused():
    with pytest.raises(ValueError, match="images of 4 pixels: a latent cell has 8"):
        working_size(100, 100, 4, 8)
