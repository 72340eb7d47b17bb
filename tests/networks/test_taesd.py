from pathlib import Path

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from safetensors.torch import save_file
from torch.nn import functional

from latenteditor import devices
from latenteditor.networks.autoencoder import load_autoencoder, read_autoencoder_config
from latenteditor.networks.taesd import Block
from tests.networks.state_dicts import random_state_dicts, save_state_dicts


def saved(folder: Path, **options) -> Path:
    return save_state_dicts(folder, *random_state_dicts(**options))


def some_images(height: int = 16, width: int = 24) -> torch.Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))


def renamed(network: AutoencoderTiny, part: str, first_place: int) -> dict[str, torch.Tensor]:
    """The weights of one part of diffusers' autoencoder under the names of TAESD's own files."""
    prefix = f"{part}.layers."
    tensors = {}
    for name, value in network.state_dict().items():
        if name.startswith(prefix):
            place, _, rest = name.removeprefix(prefix).partition(".")
            tensors[f"{int(place) + first_place}.{rest}"] = value.half()
    return tensors


@torch.no_grad()
@pytest.mark.parametrize("channels", [4, 16])
@pytest.mark.parametrize("blocks", [(1, 1, 1), (1, 3, 2, 3)])
def test_without_branch_it_is_the_autoencoder_tiny_of_diffusers(tmp_path, channels, blocks):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        known = AutoencoderTiny(
            latent_channels=channels,
            encoder_block_out_channels=(8,) * len(blocks),
            decoder_block_out_channels=(8,) * len(blocks),
            num_encoder_blocks=blocks,
            num_decoder_blocks=blocks[::-1],
        ).half().float()  # fmt: skip
    known.save_pretrained(tmp_path / "diffusers")
    # Of the decoder, TAESD's own files count the squashing as a layer too.
    save_state_dicts(tmp_path / "own", renamed(known, "encoder", 0), renamed(known, "decoder", 1))
    expected, found = (load_autoencoder(str(tmp_path / name), "cpu") for name in ("diffusers", "own"))
    images = some_images(32, 48)
    latents = expected.encode(images)
    torch.testing.assert_close(found.encode(images), latents, rtol=1e-5, atol=1e-5)
    far = 5 * latents / latents.std()
    torch.testing.assert_close(found.decode(far), expected.decode(far), rtol=1e-5, atol=1e-5)
    assert (found.channels, found.factor) == (expected.channels, expected.factor)


@torch.no_grad()
def test_the_branch_is_added_to_what_enters_its_block():
    block = Block(8, 32)
    features = torch.randn(2, 8, 5, 7, generator=torch.Generator().manual_seed(0))
    weights = block.state_dict()
    assert block.pool is not None
    torch.nn.init.normal_(block.pool[1].weight)  # type: ignore[arg-type]
    wide = functional.conv2d(features, weights["pool.0.weight"])
    wide = functional.group_norm(wide, 4, weights["pool.1.weight"], weights["pool.1.bias"]).relu()
    entering = features + functional.conv2d(wide, weights["pool.3.weight"])
    torch.testing.assert_close(block(features), torch.relu(block.conv(entering) + entering))


@pytest.mark.parametrize(("channels", "halvings"), [(32, 3), (32, 2), (4, 3), (5, 1)])
def test_sizes_follow_from_the_tensors(tmp_path, channels, halvings):
    config = read_autoencoder_config(str(saved(tmp_path, channels=channels, halvings=halvings)))
    assert (config.channels, config.factor) == (channels, 2**halvings)


@pytest.mark.parametrize("size", [(16, 24), (4, 4), (20, 12), (64, 8)])
@pytest.mark.parametrize("branch", [True, False])
def test_images_come_back_in_their_size_and_range(tmp_path, size, branch):
    autoencoder = load_autoencoder(str(saved(tmp_path, branch=branch)), "cpu")
    latents = autoencoder.encode(some_images(*size))
    images = autoencoder.decode(latents)
    assert latents.shape == (2, 32, size[0] // 4, size[1] // 4)
    assert images.shape == (2, 3, *size)
    assert images.min() >= 0
    assert images.max() <= 1


@torch.no_grad()
def test_latents_are_what_the_encoder_makes_of_images_between_zero_and_one(tmp_path):
    autoencoder = load_autoencoder(str(saved(tmp_path)), "cpu")
    images = some_images()
    torch.testing.assert_close(autoencoder.encode(images), autoencoder._network.encoder(images))  # type: ignore[operator]


def test_latents_beyond_the_squashing_all_look_alike(tmp_path):
    autoencoder = load_autoencoder(str(saved(tmp_path)), "cpu")
    signs = torch.randn(1, 32, 4, 4, generator=torch.Generator().manual_seed(0)).sign()
    torch.testing.assert_close(autoencoder.decode(1e2 * signs), autoencoder.decode(1e6 * signs))
    assert not torch.allclose(autoencoder.decode(signs), autoencoder.decode(1e2 * signs))


def test_safetensors_of_the_same_names_are_read_too(tmp_path):
    folder = saved(tmp_path / "pth")
    (tmp_path / "safetensors").mkdir()
    for file in folder.iterdir():
        save_file(torch.load(file), tmp_path / "safetensors" / f"{file.stem}.safetensors")
    same = [load_autoencoder(str(tmp_path / name), "cpu") for name in ("pth", "safetensors")]
    assert same[0].fingerprint == same[1].fingerprint
    latents = same[0].encode(some_images())
    assert torch.equal(same[0].decode(latents), same[1].decode(latents))


def test_a_config_of_diffusers_goes_first(tmp_path):
    AutoencoderTiny(
        encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1),
    ).save_pretrained(saved(tmp_path))  # fmt: skip
    assert read_autoencoder_config(str(tmp_path)).channels == 4


def test_the_fingerprint_follows_the_encoder_and_the_precision_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "is_slow_in_half", lambda: False)
    encoder, decoder = random_state_dicts()

    def fingerprint(half_precision: bool = False) -> str:
        save_state_dicts(tmp_path, encoder, decoder)
        return load_autoencoder(str(tmp_path), "cpu", half_precision).fingerprint

    before = fingerprint()
    decoder["1.bias"] += 1
    assert fingerprint() == before
    assert fingerprint(half_precision=True) != before
    encoder["0.bias"] += 1
    assert fingerprint() != before


def test_half_precision_on_a_cpu_gives_back_the_precision_it_got(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "is_slow_in_half", lambda: False)
    folder = str(saved(tmp_path))
    half, full = load_autoencoder(folder, "cpu", half_precision=True), load_autoencoder(folder, "cpu")
    latents = full.encode(some_images())
    assert (half.dtype, full.dtype) == (torch.bfloat16, torch.float32)
    assert half.encode(some_images()).dtype == torch.float32
    assert (half.encode(some_images()) - latents).abs().max() < 0.05 * latents.abs().max()


def refusal(folder: Path) -> str:
    with pytest.raises(ValueError) as answer:
        load_autoencoder(str(folder), "cpu")
    assert "\n" not in str(answer.value)
    return str(answer.value)


def test_half_a_pair_and_two_pairs_are_refused(tmp_path):
    folder = saved(tmp_path)
    assert load_autoencoder(str(folder), "cpu").channels == 32
    (folder / "taef2_encoder.pth").rename(folder / "kept")
    assert "no encoder among the state dicts in" in refusal(folder)
    (folder / "kept").rename(folder / "taef2_encoder.pth")
    save_state_dicts(folder, *random_state_dicts(channels=4), name="taesd")
    assert "more than one encoder" in refusal(folder)
    assert "taesd_encoder.pth" in refusal(folder)


def without(state: dict, key: str) -> dict:
    return {name: value for name, value in state.items() if name != key}


def test_what_is_no_such_network_is_refused_in_a_sentence(tmp_path):
    encoder, decoder = random_state_dicts()
    for number, (other, why) in enumerate(
        (
            (encoder | {"mean": torch.zeros(4)}, "invalid literal"),
            (encoder | {"1.skip.weight": torch.zeros(8, 8, 1, 1)}, "Unexpected key.*1.skip.weight"),
            (without(encoder, "1.conv.2.weight"), "Missing key.*1.conv.2.weight"),
            (without(encoder, "2.weight"), "there is no weight"),
            (encoder | {"1.conv.2.weight": torch.zeros(8, 6, 3, 3)}, "size mismatch for 1.conv.2.weight"),
            (encoder | {"0.weight": torch.zeros(8)}, "not enough values"),
            ({}, "empty"),
            ({0: torch.zeros(8)}, "something else than named tensors"),
        )
    ):
        folder = save_state_dicts(tmp_path / str(number), other, decoder)
        with pytest.raises(ValueError, match=rf"taef2_encoder\.pth holds no network in the layout of TAESD \(.*{why}"):
            load_autoencoder(str(folder), "cpu")


def test_a_file_of_more_than_tensors_is_refused(tmp_path):
    folder = saved(tmp_path)
    torch.save({"step": 3, "state": torch.load(folder / "taef2_decoder.pth")}, folder / "taef2_decoder.pth")
    assert (
        "taef2_decoder.pth holds no network in the layout of TAESD (it holds something else than named tensors)"
        in refusal(folder)
    )


def test_a_damaged_file_is_refused(tmp_path):
    folder = saved(tmp_path)
    file = folder / "taef2_decoder.pth"
    file.write_bytes(file.read_bytes()[:500])
    assert "taef2_decoder.pth could not be read" in refusal(folder)
    file.write_bytes(b"")
    assert "taef2_decoder.pth could not be read" in refusal(folder)
    file.unlink()
    file.with_suffix(".safetensors").write_bytes(b"not at all")
    assert "taef2_decoder.safetensors could not be read" in refusal(folder)


def test_two_halves_of_different_autoencoders_are_refused(tmp_path):
    for number, options in enumerate(({"channels": 4}, {"halvings": 3})):
        folder = save_state_dicts(tmp_path / str(number), random_state_dicts()[0], random_state_dicts(**options)[1])
        assert "taef2_encoder.pth and taef2_decoder.pth in" in refusal(folder)
        assert "are no autoencoder together" in refusal(folder)
