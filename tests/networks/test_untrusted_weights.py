"""Weights from a stranger are read, never executed."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from latenteditor.networks.autoencoder import load_autoencoder
from latenteditor.networks.clip import load_clip
from latenteditor.networks.instruct_pix2pix import load_instruct_pix2pix
from tests.networks.state_dicts import random_state_dicts, save_state_dicts


class Payload:
    """What leaves a file behind where it is unpickled."""

    def __init__(self, traces: Path) -> None:
        self.traces = traces

    def __reduce__(self):
        return Path.touch, (self.traces,)


@pytest.mark.parametrize(
    ("part", "name", "load"),
    [
        ("unet", "diffusion_pytorch_model.bin", load_instruct_pix2pix),
        ("text_encoder", "pytorch_model.bin", load_instruct_pix2pix),
        ("vae", "diffusion_pytorch_model.bin", load_autoencoder),
        (".", "pytorch_model.bin", load_clip),
    ],
    ids=["unet", "text encoder", "autoencoder", "CLIP"],
)
def test_what_else_a_file_of_weights_holds_is_not_executed(
    part, name, load, tiny_instruct_pix2pix_folder, tiny_clip_folder, tmp_path
):
    source = tiny_clip_folder if load is load_clip else tiny_instruct_pix2pix_folder
    model = shutil.copytree(source, tmp_path / "model")
    for weights in (model / part).glob("*.safetensors"):
        weights.unlink()
    traces = tmp_path / "executed"
    torch.save({"weight": Payload(traces)}, model / part / name)
    with pytest.raises(ValueError, match="could not be read") as answer:
        load(str(model), "cpu")
    assert "\n" not in str(answer.value)
    assert not traces.exists()


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_what_else_a_state_dict_holds_is_not_executed(part, tmp_path):
    folder = save_state_dicts(tmp_path / "model", *random_state_dicts())
    traces = tmp_path / "executed"
    torch.save({"0.weight": Payload(traces)}, folder / f"taef2_{part}.pth")
    with pytest.raises(ValueError, match=f"taef2_{part}.pth could not be read .it holds more than weights"):
        load_autoencoder(str(folder), "cpu")
    assert not traces.exists()


def test_weights_alone_are_read_from_such_a_file(tiny_instruct_pix2pix_folder, tmp_path):
    model = shutil.copytree(tiny_instruct_pix2pix_folder, tmp_path / "model")
    (weights,) = (model / "vae").glob("*.safetensors")
    torch.save(load_file(weights), model / "vae/diffusion_pytorch_model.bin")
    weights.unlink()
    fingerprints = [
        load_autoencoder(str(folder), "cpu").fingerprint for folder in (tiny_instruct_pix2pix_folder, model)
    ]
    assert fingerprints[0] == fingerprints[1]
