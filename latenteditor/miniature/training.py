"""Trains the built-in editor: an autoencoder, then a U-Net and a text encoder, on pairs of views; or goes on with one.

The result is a ``StableDiffusionInstructPix2PixPipeline`` folder, small, but the same in kind as the real one.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from latenteditor.miniature.autoencoder_training import (
    AutoencoderConfig,
    TrainingImages,
    fit_autoencoder,
    fit_decoder,
)
from latenteditor.miniature.editor_networks import EditorLoss, EditorNetworks, EditorTrainingConfig, noise_scheduler
from latenteditor.miniature.fitting import FitConfig, fit
from latenteditor.miniature.parallel import first_process_first, join_processes, process_index, wait_for_all
from latenteditor.miniature.photographs import read_photographs
from latenteditor.miniature.refinement import RefinementConfig, load_frozen, refine
from latenteditor.miniature.training_data import (
    LatentPairs,
    build_tokenizer,
    encode_pairs,
    load_pairs,
    tokenize,
)

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from transformers import CLIPTokenizer


@dataclass
class TrainingConfig:
    """Everything that decides what the built-in editor becomes."""

    work_dir: Path = Path("outputs/editor")
    """Keeps pairs and checkpoints; start again with the same folder to go on."""
    output: Path = Path("outputs/editor/instruct_pix2pix")
    """Where the finished pipeline folder goes."""
    start_from: Path | None = None
    """A finished pipeline folder to go on with: everything but the refinement is left out. None starts from nothing."""
    photographs: Path | None = None
    """A folder of photographs to learn from besides the worlds; without it the editor knows worlds alone."""
    device: str = "cpu"
    """Any torch device; a checkpoint made on one loads on another."""
    num_worlds: int = 4300
    """Training worlds, each seen in a few views with a few instructions each."""
    num_photograph_batches: int = 800
    """How often a few views are cut from photographs."""
    size: int = 128
    """Pixels of either side of a training view."""
    large_size: int = 256
    """Pixels of either side of the views that the editor learns from last. What it learns at one size it takes for
    granted at another only in part: it sees solids that are not there."""
    num_large_worlds: int = 380
    """Training worlds of that size."""
    num_large_photograph_batches: int = 80
    """How often a few views of that size are cut from photographs."""
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    """The autoencoder."""
    editor: EditorTrainingConfig = field(default_factory=EditorTrainingConfig)
    """U-Net and text encoder."""
    large_fit: FitConfig = field(
        default_factory=lambda: FitConfig(steps=600, batch_size=12, learning_rate=3e-4, decay_share=0.6, bf16=True)
    )
    """Their gradient steps on large views, every third of them, on average, on small ones, so that both stay known."""
    refinement: RefinementConfig = field(default_factory=RefinementConfig)
    """What the finished editor learns last: mostly new shapes, materials and removals."""


def train_editor(config: TrainingConfig) -> None:
    """Runs every stage that is not finished yet, and saves the pipeline folder.

    Raises:
        ValueError: The folder of photographs holds none.
    """
    join_processes()
    config.work_dir.mkdir(parents=True, exist_ok=True)
    start = config.start_from
    if start is None:
        start = config.work_dir / "unrefined"
        train_from_nothing(config, start)
    networks = refine(config.refinement, start, config.work_dir, config.photographs, config.device)
    if process_index() == 0:
        autoencoder, tokenizer = load_frozen(start)
        save_pipeline(config.output, autoencoder, tokenizer, networks)


def train_from_nothing(config: TrainingConfig, output: Path) -> None:
    """Every stage but the refinement; saves its pipeline in ``output``."""
    photographs = read_photographs(config.photographs) if config.photographs else []
    batches = config.num_photograph_batches if photographs else 0
    pairs = load_pairs(config.work_dir / "pairs", config.num_worlds, config.size, photographs, batches)
    images = TrainingImages(pairs, photographs, config.autoencoder.photographs)
    autoencoder = fit_autoencoder(config.autoencoder, images, config.work_dir / "autoencoder.ckpt", config.device)
    fit_decoder(autoencoder, config.autoencoder, images, config.work_dir / "decoder.ckpt", config.device)
    with first_process_first():
        tokenizer = build_tokenizer(pairs.instructions, config.work_dir / "tokenizer")
    latents = encode_pairs(pairs, autoencoder, tokenizer, config.work_dir / "latents.pt", config.device)
    del images, pairs  # Gigabytes, in each process.
    batches = config.num_large_photograph_batches if photographs else 0
    pairs = load_pairs(config.work_dir / "pairs", config.num_large_worlds, config.large_size, photographs, batches)
    large = encode_pairs(pairs, autoencoder, tokenizer, config.work_dir / "large_latents.pt", config.device)
    networks = fit_editor(config, latents, large, tokenizer, autoencoder.config["scaling_factor"])
    if process_index() == 0:
        save_pipeline(output, autoencoder, tokenizer, networks)
    wait_for_all()


def fit_editor(
    config: TrainingConfig, pairs: LatentPairs, large: LatentPairs, tokenizer: "CLIPTokenizer", scale: float
) -> EditorNetworks:
    """U-Net and text encoder, by denoising the edited view given the unedited one and the instruction."""
    ours = config.editor
    torch.manual_seed(ours.fit.seed)
    networks: Any = EditorNetworks(ours, len(tokenizer), pairs)
    networks = networks.to(config.device, memory_format=torch.channels_last)
    empty = tokenize(tokenizer, [""])
    loss = EditorLoss(ours, pairs, empty, scale)
    # The network itself goes on, with the mean of its weights: what a copy computes, its helping layers do not see.
    networks.load_state_dict(fit(networks, loss, ours.fit, config.work_dir / "editor.ckpt", "editor").state_dict())
    large_loss = EditorLoss(replace(ours, fit=config.large_fit), large, empty, scale)

    def either(networks: Any, generator: torch.Generator) -> Tensor:
        """The loss of large views in two of three steps."""
        return (loss if torch.rand((), generator=generator) < 1 / 3 else large_loss)(networks, generator)

    fitted: Any = fit(networks, either, config.large_fit, config.work_dir / "large_editor.ckpt", "editor, large views")
    return fitted


def save_pipeline(
    folder: Path, autoencoder: "AutoencoderKL", tokenizer: "CLIPTokenizer", networks: EditorNetworks
) -> None:
    """Writes the folder that diffusers and this package load."""
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_instruct_pix2pix import (
        StableDiffusionInstructPix2PixPipeline,
    )

    scheduler: Any = noise_scheduler()
    pipeline = StableDiffusionInstructPix2PixPipeline(
        vae=autoencoder,
        text_encoder=networks.text_encoder,
        tokenizer=tokenizer,
        unet=networks.unet,
        scheduler=scheduler,
        safety_checker=None,  # pyright: ignore[reportArgumentType]
        feature_extractor=None,  # pyright: ignore[reportArgumentType]
        requires_safety_checker=False,
    )
    pipeline.to(torch.float16).save_pretrained(folder, safe_serialization=True)
