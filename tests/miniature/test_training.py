from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from latenteditor.diffusion.autoencoder import load_autoencoder
from latenteditor.diffusion.instruct_pix2pix import load_instruct_pix2pix
from latenteditor.miniature.pairs import VIEWS_PER_WORLD
from latenteditor.miniature.training import (
    PROMPT_TOKENS,
    FitConfig,
    TrainingConfig,
    build_tokenizer,
    fit,
    load_pairs,
    tokenize,
    train_editor,
)

CONFIG = FitConfig(steps=11, batch_size=4, warmup_steps=2, steps_per_checkpoint=4, ema_decay=0.9)
INSTRUCTIONS = ["make the cone blue", "turn the cube red", "paint the cone red"] * 10


class Interruption(Exception):
    """The power fails."""


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.GELU(), nn.Linear(5, 1))


def loss(network: nn.Module, generator: torch.Generator) -> torch.Tensor:
    points = torch.randn(CONFIG.batch_size, 3, generator=generator)
    return (network(points) - points.sum(dim=1, keepdim=True)).square().mean()


def weights(network: nn.Module) -> list[torch.Tensor]:
    return [value.clone() for value in network.state_dict().values()]


@pytest.mark.parametrize("steps_done", [5, 9, 10])
def test_an_interrupted_fit_ends_at_exactly_the_weights_of_one_that_was_not(tmp_path, steps_done):
    whole = fit(network(), loss, CONFIG, tmp_path / "whole.ckpt", "whole")
    calls = []

    def interrupted_loss(network, generator):
        calls.append(1)
        if len(calls) > steps_done:
            raise Interruption
        return loss(network, generator)

    with pytest.raises(Interruption):
        fit(network(), interrupted_loss, CONFIG, tmp_path / "part.ckpt", "part")
    another = nn.Sequential(nn.Linear(3, 5), nn.GELU(), nn.Linear(5, 1))
    resumed = fit(another, loss, CONFIG, tmp_path / "part.ckpt", "part")
    assert all(map(torch.equal, weights(whole), weights(resumed)))
    assert not (tmp_path / "part.partial").exists()


def test_a_finished_fit_is_read_and_not_repeated(tmp_path):
    whole = fit(network(), loss, CONFIG, tmp_path / "fit.ckpt", "fit")

    def no_loss(network, generator):
        raise AssertionError("nothing is left to fit")

    again = fit(network(), no_loss, CONFIG, tmp_path / "fit.ckpt", "fit")
    assert all(map(torch.equal, weights(whole), weights(again)))


def test_a_fit_lowers_the_loss_and_leaves_a_network_for_use(tmp_path):
    config = replace(CONFIG, steps=200, learning_rate=0.02)
    fitted = fit(network(), loss, config, tmp_path / "fit.ckpt", "fit")
    held_out = torch.Generator().manual_seed(99)
    assert loss(fitted, held_out) < 0.2 * loss(network(), held_out)
    assert not fitted.training


def test_known_words_are_whole_and_unknown_ones_are_spelled(tmp_path):
    tokenizer = build_tokenizer(INSTRUCTIONS, tmp_path / "tokenizer")
    assert tokenizer.tokenize("make the cone blue") == ["make</w>", "the</w>", "cone</w>", "blue</w>"]
    spelled = tokenizer.tokenize("zebra")
    assert "".join(spelled).removesuffix("</w>") == "zebra"
    assert len(spelled) > 1
    assert tokenizer.unk_token_id not in tokenizer("Ünïcode, too!").input_ids[1:-1]


def test_tokens_are_padded_to_one_length_between_their_marks(tmp_path):
    tokenizer = build_tokenizer(INSTRUCTIONS, tmp_path / "tokenizer")
    tokens = tokenize(tokenizer, ["make the cone blue", ""])
    assert tokens.shape == (2, PROMPT_TOKENS)
    assert (tokens[:, 0] == tokenizer.bos_token_id).all()
    assert (tokens[0, 5:] == tokenizer.eos_token_id).all()
    assert (tokens[1, 1:] == tokenizer.eos_token_id).all()


def test_pairs_are_rendered_once(tmp_path, monkeypatch):
    config = TrainingConfig(work_dir=tmp_path, num_worlds=3, size=16)
    monkeypatch.setattr("latenteditor.miniature.training.WORLDS_PER_FILE", 2)
    pairs = load_pairs(config)
    assert pairs.before.shape == pairs.after.shape == (3 * VIEWS_PER_WORLD, 3, 16, 16)
    assert pairs.solids.shape == (3 * VIEWS_PER_WORLD, 1, 16, 16)
    assert len(pairs.instructions) == 3 * VIEWS_PER_WORLD
    monkeypatch.setattr("latenteditor.miniature.training.write_pairs", None)
    again = load_pairs(config)
    assert all(map(torch.equal, pairs[:3], again[:3]))
    assert pairs.instructions == again.instructions


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """What every stage together leaves behind after a few steps; its edits mean nothing."""
    folder = tmp_path_factory.mktemp("editor")
    config = TrainingConfig(
        work_dir=folder / "work",
        output=folder / "instruct_pix2pix",
        num_worlds=2,
        size=32,
        crop=32,
        autoencoder=FitConfig(steps=3, batch_size=2),
        editor=FitConfig(steps=3, batch_size=2),
        grounding=FitConfig(steps=3, batch_size=2),
        channels=(16, 32),
        text_width=16,
    )
    train_editor(config)
    return config.output


def test_diffusers_loads_and_runs_the_trained_folder(trained):
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_instruct_pix2pix import (
        StableDiffusionInstructPix2PixPipeline,
    )

    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(trained, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    image = np.zeros((1, 32, 32, 3), dtype=np.float32)
    edited = pipeline("make the cone blue", image=image, num_inference_steps=2, output_type="np").images
    assert edited.shape == (1, 32, 32, 3)
    assert np.isfinite(edited).all()


def test_this_package_loads_and_runs_the_trained_folder(trained):
    autoencoder = load_autoencoder(str(trained), "cpu")
    denoiser = load_instruct_pix2pix(str(trained), "cpu")
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    latents = autoencoder.encode(images)
    denoiser.require_channels(autoencoder.channels)
    predicted = denoiser.predict_noise(latents, latents, 500, ["make the cone blue", ""])
    assert predicted.shape == latents.shape == (2, 4, 4, 4)
    assert predicted.isfinite().all()
    assert denoiser.noise_schedule.prediction_type == "v_prediction"


def test_latents_of_training_pictures_have_unit_variance(trained):
    pairs = load_pairs(TrainingConfig(work_dir=trained.parent / "work", num_worlds=2, size=32))
    latents = load_autoencoder(str(trained), "cpu").encode(pairs.before / 255)
    assert float(latents.std()) == pytest.approx(1, rel=0.02)
