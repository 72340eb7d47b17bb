from dataclasses import replace
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from latenteditor.miniature.autoencoder_training import AutoencoderConfig, TrainingImages, disturb
from latenteditor.miniature.editor_networks import (
    LEAST_RENDERED,
    EditorLoss,
    EditorNetworks,
    EditorTrainingConfig,
)
from latenteditor.miniature.fitting import FitConfig, fit
from latenteditor.miniature.pairs import INSTRUCTIONS_PER_VIEW, VIEWS_PER_WORLD
from latenteditor.miniature.photographs import read_photographs
from latenteditor.miniature.refinement import RefinementConfig
from latenteditor.miniature.training import TrainingConfig, train_editor
from latenteditor.miniature.training_data import (
    PROMPT_TOKENS,
    LatentPairs,
    Pairs,
    build_tokenizer,
    encode_pairs,
    load_pairs,
    tokenize,
)
from latenteditor.networks.autoencoder import load_autoencoder
from latenteditor.networks.instruct_pix2pix import load_instruct_pix2pix

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


def test_the_rate_rises_stays_and_falls_to_nearly_nothing():
    config = FitConfig(steps=1000, batch_size=1, learning_rate=2.0, warmup_steps=10, decay_share=0.5)
    assert [config.rate(step) for step in (0, 9, 300, 499)] == pytest.approx([0.2, 2, 2, 2])
    assert [config.rate(step) for step in (750, 999)] == pytest.approx([1, 0.004])


def test_a_longer_fit_shares_its_first_steps_with_a_shorter_one():
    short, long = (FitConfig(steps=steps, batch_size=1, decay_share=0.5) for steps in (100, 200))
    assert [short.rate(step) for step in range(50)] == [long.rate(step) for step in range(50)]


@pytest.fixture
def photographs(tmp_path) -> Path:
    """Two photographs, one of them twice, a plain picture and one that is too small."""
    folder = tmp_path / "photographs"
    (folder / "more").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, size in (("a.png", (700, 900)), ("more/b.jpg", (330, 400)), ("small.png", (60, 60))):
        coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        iio.imwrite(folder / name, np.kron(coarse, np.ones((1 + size[0] // 6, 1 + size[1] // 6, 1), dtype=np.uint8)))
    iio.imwrite(folder / "more/copy.png", iio.imread(folder / "a.png")[::2, ::2])
    iio.imwrite(folder / "plain.png", np.full((800, 800, 3), 90, dtype=np.uint8))
    return folder


def test_photographs_are_read_once_in_every_size_they_have(photographs):
    read = read_photographs(photographs)
    assert sorted(min(photograph.shape[:2]) for photograph in read) == [320, 320, 640]


def test_a_folder_without_photographs_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no photograph of at least 320 pixels"):
        read_photographs(tmp_path)


def test_pairs_are_made_once(tmp_path, monkeypatch):
    monkeypatch.setattr("latenteditor.miniature.training_data.BATCHES_PER_FILE", 2)
    photographs = [np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)]
    pairs = load_pairs(tmp_path, 3, 16, photographs, 1)
    views = (3 + 1) * VIEWS_PER_WORLD
    assert pairs.before.shape == (views, 16, 16, 3)
    assert pairs.shapes.shape == pairs.colours.shape == (views, 16, 16)
    assert pairs.after.shape == (views * INSTRUCTIONS_PER_VIEW, 16, 16, 3)
    assert pairs.region.shape == (views * INSTRUCTIONS_PER_VIEW, 16, 16)
    assert len(pairs.instructions) == views * INSTRUCTIONS_PER_VIEW
    assert pairs.view.tolist() == sorted(list(range(views)) * INSTRUCTIONS_PER_VIEW)
    monkeypatch.setattr("latenteditor.miniature.training_data.write_pairs", None)
    again = load_pairs(tmp_path, 3, 16, photographs, 1)
    assert all(map(torch.equal, pairs[:7], again[:7]))
    assert pairs.instructions == again.instructions


def test_an_edit_keeps_what_its_instruction_does_not_name(tmp_path):
    pairs = load_pairs(tmp_path, 3, 24, [], 0)
    for index, instruction in enumerate(pairs.instructions):
        outside = pairs.region[index] == 0
        if "cone" in instruction and "into" not in instruction and "remove" not in instruction:
            change = (pairs.after[index].int() - pairs.before[pairs.view[index]].int()).abs().amax(dim=-1)
            assert change[outside].float().mean() < 1


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_crops_come_from_photographs_as_often_as_asked(share):
    """Worlds are black here, the photograph is white."""
    views = torch.zeros(5, 16, 16, 3, dtype=torch.uint8)
    pairs = Pairs(views, views[..., 0], views[..., 0], torch.arange(5), views, torch.arange(5), views[..., 0], [""] * 5)
    images = TrainingImages(pairs, [np.full((20, 30, 3), 255, dtype=np.uint8)], share)
    generator = torch.Generator().manual_seed(0)
    crops = [images.draw(generator, 4, 16) for _ in range(200)]
    assert all(batch.shape == (4, 3, 16, 16) and batch.min() == batch.max() for batch in crops)
    assert np.mean([batch.max() == 1 for batch in crops]) == pytest.approx(share, abs=0.08)


def latent_pairs(edits: int = 6) -> LatentPairs:
    """Random latents of three views with two edits each."""
    generator = torch.Generator().manual_seed(0)
    shares = torch.rand(3, 6, 8, 8, generator=generator).softmax(dim=1)
    return LatentPairs(
        before=torch.randn(3, 4, 8, 8, generator=generator),
        shapes=shares,
        colours=torch.rand(3, 9, 8, 8, generator=generator).softmax(dim=1),
        view=torch.arange(3).repeat_interleave(2),
        after=torch.randn(edits, 4, 8, 8, generator=generator),
        target=torch.arange(edits),
        region=torch.rand(edits, 1, 8, 8, generator=generator).round(),
        tokens=torch.randint(2, 20, (edits, PROMPT_TOKENS), generator=generator),
    )


def editor_loss(pairs: LatentPairs, **changes: float) -> EditorLoss:
    """The loss with weights as small as they get, but for ``changes``."""
    weights = {"solids_weight": 0.0, "region_weight": 0.0, "grounding_weight": 0.0, "unchanged": 0.0}
    weights |= {"image_dropped": 0.0, **changes}
    config = EditorTrainingConfig(fit=FitConfig(steps=1, batch_size=5), **weights)
    return EditorLoss(config, pairs, torch.ones(1, PROMPT_TOKENS, dtype=torch.long), 0.5)


class Recorder(torch.nn.Module):
    """Predicts nothing and remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, noisy, condition, timesteps, tokens):
        self.asked = {"noisy": noisy, "condition": condition, "timesteps": timesteps, "tokens": tokens}
        cells = noisy.shape[0], 1, *noisy.shape[-2:]
        return (
            self.weight * noisy,
            self.weight * torch.zeros(noisy.shape[0], 15, 4, 4),
            self.weight * torch.zeros(cells),
        )


def test_each_edit_meets_its_own_view_unscaled():
    pairs, recorder = latent_pairs(), Recorder()
    editor_loss(pairs)(recorder, torch.Generator().manual_seed(0))
    for condition, tokens in zip(recorder.asked["condition"], recorder.asked["tokens"], strict=True):
        (edit,) = [index for index in range(6) if torch.equal(pairs.tokens[index], tokens)]
        assert torch.allclose(condition, pairs.before[pairs.view[edit]] / 0.5)


def test_without_words_nothing_is_to_change_and_without_an_image_there_is_none():
    pairs, recorder = latent_pairs(), Recorder()
    editor_loss(pairs, unchanged=1.0)(recorder, torch.Generator().manual_seed(0))
    assert (recorder.asked["tokens"] == 1).all()
    assert recorder.asked["condition"].any()
    editor_loss(pairs, image_dropped=1.0)(recorder, torch.Generator().manual_seed(0))
    assert not recorder.asked["condition"].any()


def test_every_picture_weighs_the_same_however_large_its_region_is():
    pairs = latent_pairs()
    losses = [
        editor_loss(pairs, region_weight=weight)(Recorder(), torch.Generator().manual_seed(0)).item()
        for weight in (0.0, 8.0)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=0.2)
    assert losses[0] != losses[1]


class Oracle(Recorder):
    """Knows from the words which picture is asked for, and the velocity that leads there from anywhere."""

    def __init__(self, loss: EditorLoss) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, noisy, condition, timesteps, tokens):
        _, classes, located = super().forward(noisy, condition, timesteps, tokens)
        pairs = self.loss.pairs
        edits = [int((pairs.tokens == row).all(dim=1).nonzero()) for row in tokens]
        alpha, sigma = self.loss._scales(timesteps)
        return (alpha * noisy - pairs.after[edits]) / sigma, classes, located


@pytest.mark.parametrize("shares", [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (0.5, 0.5)])
def test_who_knows_the_edited_picture_errs_nowhere(shares):
    """Neither where noise is added to what is rendered, nor where its own steps lead."""
    loss = editor_loss(latent_pairs(), rendered_share=shares[0], own_share=shares[1])
    oracle = Oracle(loss)
    for seed in range(4):
        assert loss(oracle, torch.Generator().manual_seed(seed)).item() == pytest.approx(0, abs=1e-6)


def test_without_what_is_rendered_or_led_to_the_velocity_is_the_usual_one():
    loss = editor_loss(latent_pairs())
    batch = loss._draw(torch.Generator().manual_seed(0))
    noisy = loss._noisy(Recorder(), batch)
    alpha, sigma = loss._scales(batch.timesteps)
    assert torch.allclose(noisy, loss.scheduler.add_noise(batch.clean, batch.noise, batch.timesteps), atol=1e-5)
    velocity = loss.scheduler.get_velocity(batch.clean, batch.noise, batch.timesteps)
    assert torch.allclose((alpha * noisy - batch.clean) / sigma, velocity, atol=1e-3)


def test_a_step_of_who_knows_the_picture_keeps_the_noise_and_lowers_it():
    loss = editor_loss(latent_pairs(), own_share=1.0)
    batch = loss._draw(torch.Generator().manual_seed(0))
    assert (batch.earlier >= batch.timesteps).all()
    assert (batch.earlier > batch.timesteps).any()
    noisy = loss._noisy(Oracle(loss), batch)
    assert torch.allclose(noisy, loss.scheduler.add_noise(batch.clean, batch.noise, batch.timesteps), atol=1e-4)


def test_what_is_rendered_holds_the_other_picture_where_there_is_much_noise_and_never_where_there_is_little():
    loss = editor_loss(latent_pairs(), rendered_share=1.0)
    batches = [loss._draw(torch.Generator().manual_seed(seed)) for seed in range(40)]
    rendered, timesteps = (torch.cat([getattr(batch, name) for batch in batches]) for name in ("rendered", "timesteps"))
    assert (rendered[timesteps <= LEAST_RENDERED] == 0).all()
    assert (rendered[timesteps > LEAST_RENDERED] > 0).all()
    assert (rendered == 1).float().mean() > 0.3


def test_cells_along_the_outline_weigh_most():
    loss = editor_loss(latent_pairs(), region_weight=8.0, outline_weight=4.0)
    region = torch.zeros(1, 1, 9, 9)
    region[..., 2:7, 2:7] = 1
    weight = loss._weights(torch.ones(1, 6, 9, 9), region)[0, 0]
    assert weight.mean() == pytest.approx(1)
    outside, beside, along, inside = weight[0, 0], weight[1, 4], weight[2, 4], weight[4, 4]
    assert [(value / outside).item() for value in (beside, along, inside)] == pytest.approx([5, 13, 9])


def test_grounding_is_learnt_from_the_image_alone():
    pairs, generator = latent_pairs(), torch.Generator
    plain = editor_loss(pairs)(Recorder(), generator().manual_seed(0))
    grounded = editor_loss(pairs, grounding_weight=1.0)(Recorder(), generator().manual_seed(0))
    assert (grounded - plain).item() == pytest.approx(np.log(2) + _uniform_entropy(), rel=0.05)
    dropped = editor_loss(pairs, image_dropped=1.0)(Recorder(), generator().manual_seed(0))
    both = editor_loss(pairs, grounding_weight=1.0, image_dropped=1.0)(Recorder(), generator().manual_seed(0))
    assert both == dropped


def _uniform_entropy() -> float:
    """Cross entropy of a guess among six shapes and nine colours."""
    return float(np.log(6) + np.log(9))


def test_the_text_reaches_the_finest_level():
    """Of a U-Net without any attention there, by the scales of its residual blocks."""
    torch.manual_seed(0)
    config = EditorTrainingConfig(channels=(16, 32), text_width=16)
    networks = EditorNetworks(config, 20, latent_pairs()).eval()
    asked = {}
    networks.unet.down_blocks[0].register_forward_hook(lambda _, __, out: asked.update({len(asked): out[0]}))
    pairs = latent_pairs()
    for tokens in pairs.tokens[:2]:
        networks(pairs.before[:1], pairs.before[:1], torch.tensor([900]), tokens[None])
    assert not torch.allclose(asked[0], asked[1])


def test_disturbed_latents_stay_near_and_some_stay_as_they_are():
    latents = torch.zeros(4, 4, 8, 8)
    disturbed = [disturb(latents, 0.5, torch.Generator().manual_seed(seed)) for seed in range(60)]
    deviations = torch.stack([values.std() for values in disturbed])
    assert 10 < (deviations == 0).sum() < 35
    assert 0.05 < deviations[deviations > 0].mean() < 0.5


def test_the_encoder_stays_as_it_is_while_the_decoder_learns(trained):
    """Else the latents that the U-Net learned from would not be the shipped encoder's."""
    work = trained.parent / "work"
    whole = torch.load(work / "autoencoder.ckpt", weights_only=True)["averaged"]
    shipped = load_file(trained / "vae/diffusion_pytorch_model.safetensors")
    same = {name: torch.equal(value, whole[f"module.{name}"].half()) for name, value in shipped.items()}
    assert all(kept for name, kept in same.items() if name.startswith(("encoder.", "quant_conv.")))
    assert not all(kept for name, kept in same.items() if name.startswith("decoder."))


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """What every stage together leaves behind after a few steps; its edits mean nothing."""
    folder = tmp_path_factory.mktemp("editor")
    few = FitConfig(steps=3, batch_size=2)
    config = TrainingConfig(
        work_dir=folder / "work",
        output=folder / "instruct_pix2pix",
        num_worlds=2,
        size=32,
        large_size=64,
        num_large_worlds=1,
        large_fit=few,
        autoencoder=AutoencoderConfig(fit=few, decoder_fit=few, crop=32, decoder_crop=32),
        editor=EditorTrainingConfig(fit=few, channels=(16, 32), text_width=16),
        refinement=RefinementConfig(
            small_size=32, large_size=64, num_close=1, num_wide=1, num_small=1, num_large=1, large_batch_size=1
        ),
    )
    config.refinement.editor.fit = few
    train_editor(config)
    return config.output


def test_the_editor_learns_from_small_views_first_and_from_large_ones_last(trained):
    work = trained.parent / "work"
    sizes = [
        torch.load(work / name, weights_only=True)["after"].shape[-1] for name in ("latents.pt", "large_latents.pt")
    ]
    assert sizes[1] == 2 * sizes[0]
    saved = load_file(trained / "unet/diffusion_pytorch_model.safetensors")["conv_in.weight"]
    small, large = (
        torch.load(work / name, weights_only=True)["averaged"]["module.unet.conv_in.weight"].half()
        for name in ("editor.ckpt", "large_editor.ckpt")
    )
    refined = torch.load(work / "refined_editor.ckpt", weights_only=True)["averaged"]["module.unet.conv_in.weight"]
    assert torch.equal(saved, refined.half())
    unrefined = load_file(work / "unrefined/unet/diffusion_pytorch_model.safetensors")["conv_in.weight"]
    assert torch.equal(unrefined, large)
    assert not torch.equal(unrefined, small)
    assert not torch.equal(unrefined, saved)


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
    pairs = load_pairs(trained.parent / "work/pairs", 2, 32, [], 0)
    latents = load_autoencoder(str(trained), "cpu").encode(pairs.before.movedim(-1, 1) / 255)
    assert float(latents.std()) == pytest.approx(1, rel=0.02)


def test_pairs_are_encoded_once(tmp_path, trained):
    from diffusers import AutoencoderKL

    autoencoder = AutoencoderKL.from_pretrained(trained, subfolder="vae")
    pairs = load_pairs(trained.parent / "work/pairs", 2, 32, [], 0)
    tokenizer = build_tokenizer(pairs.instructions, tmp_path / "tokenizer")
    latents = encode_pairs(pairs, autoencoder, tokenizer, tmp_path / "latents.pt", "cpu")
    assert latents.before.shape == (len(pairs.before), 4, 4, 4)
    assert latents.shapes.sum(dim=1) == pytest.approx(1)
    assert latents.region.mean() == pytest.approx(pairs.region.float().mean())
    again = encode_pairs(pairs, None, tokenizer, tmp_path / "latents.pt", "cpu")
    assert all(map(torch.equal, latents, again))
