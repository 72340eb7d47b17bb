"""Trains the built-in editor from scratch: an autoencoder, then a U-Net and a text encoder, on pairs of views.

The result is a ``StableDiffusionInstructPix2PixPipeline`` folder, small, but the same in kind as the real one.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm.auto import tqdm

from latenteditor.miniature.pairs import write_pairs

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, DDIMScheduler
    from transformers import CLIPTokenizer

WORLDS_PER_FILE = 100
PROMPT_TOKENS = 40
"""Longest prompt, in tokens, start and end included."""


@dataclass
class FitConfig:
    """How one network is fitted."""

    steps: int
    """Gradient steps in all; a run that was interrupted goes on from its checkpoint."""
    batch_size: int
    """Pictures per step."""
    learning_rate: float = 1e-3
    """Peak rate of AdamW, after a warm-up and before a cosine decay to zero."""
    warmup_steps: int = 100
    """Steps in which the rate rises from zero."""
    ema_decay: float = 0.998
    """Of the running mean of the weights, which is what is saved."""
    steps_per_checkpoint: int = 250
    """Steps between checkpoints."""
    bf16: bool = False
    """Computes in bfloat16 where that is safe (autocast)."""
    seed: int = 0
    """Of weights and batches."""


@dataclass
class TrainingConfig:
    """Everything that decides what the built-in editor becomes."""

    work_dir: Path = Path("outputs/editor")
    """Keeps pairs and checkpoints; start again with the same folder to go on."""
    output: Path = Path("outputs/editor/instruct_pix2pix")
    """Where the finished pipeline folder goes."""
    device: str = "cpu"
    """Any torch device; a checkpoint made on one loads on another."""
    num_worlds: int = 3600
    """Training worlds, each seen in four views with one instruction each."""
    size: int = 128
    """Pixels of either side of a training view."""
    autoencoder: FitConfig = field(default_factory=lambda: FitConfig(steps=5000, batch_size=8))
    """The autoencoder's fit."""
    crop: int = 64
    """Pixels of either side of the crops the autoencoder learns from."""
    kl_weight: float = 1e-4
    """Of the latents' divergence from a unit normal, beside the mean pixel error."""
    equivariance: float = 0.25
    """How often latents and picture are shrunk alike before they are compared, which makes latents vary as
    smoothly as pictures and so easier to agree on between views (EQ-VAE, arXiv 2502.09509)."""
    editor: FitConfig = field(default_factory=lambda: FitConfig(steps=11500, batch_size=32, ema_decay=0.999))
    """The fit of U-Net and text encoder."""
    grounding: FitConfig = field(
        default_factory=lambda: FitConfig(steps=1700, batch_size=32, learning_rate=8e-4, ema_decay=0.995)
    )
    """A second fit of U-Net and text encoder at high noise, where nothing but the words says which solid is meant."""
    grounding_noise: float = 0.35
    """Share of the schedule, from its noisiest end, in which three of four pictures of the second fit lie."""
    channels: tuple[int, ...] = (48, 96, 128)
    """Of the U-Net's levels."""
    text_width: int = 96
    """Of the text encoder."""
    solids_weight: float = 8.0
    """Extra weight of the loss where there is a solid, named by the instruction or not: what must change and what
    must not is decided there, and floor and sky fill most of a view."""
    unchanged: float = 0.15
    """How often the instruction is empty and the picture stays as it is: "no prompt" then means "no edit", so
    that the delta score lights up where the prompt applies and nowhere else."""
    image_dropped: float = 0.08
    """How often the image condition is left out; in half of these the instruction is empty too."""


class Pairs(NamedTuple):
    """All training pairs in memory."""

    before: UInt8[Tensor, "pairs 3 size size"]
    after: UInt8[Tensor, "pairs 3 size size"]
    solids: UInt8[Tensor, "pairs 1 size size"]
    instructions: list[str]


class LatentPairs(NamedTuple):
    """Training pairs as the U-Net meets them."""

    before: Float[Tensor, "pairs channels rows columns"]
    """Scaled latents."""
    after: Float[Tensor, "pairs channels rows columns"]
    solids: Float[Tensor, "pairs 1 rows columns"]
    """1 in cells that show some of a solid."""
    tokens: Int[Tensor, "pairs tokens"]


def train_editor(config: TrainingConfig) -> None:
    """Runs every stage that is not finished yet, and saves the pipeline folder."""
    config.work_dir.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.editor.seed)
    pairs = load_pairs(config)
    autoencoder = fit_autoencoder(config, pairs)
    tokenizer = build_tokenizer(pairs.instructions, config.work_dir / "tokenizer")
    latents = encode_pairs(config, autoencoder, tokenizer, pairs)
    networks = fit_editor(config, latents, tokenizer, autoencoder.config["scaling_factor"])
    save_pipeline(config.output, autoencoder, tokenizer, networks)


def load_pairs(config: TrainingConfig) -> Pairs:
    """Renders the pairs that are not on disk yet and reads all of them."""
    folder = config.work_dir / "pairs"
    folder.mkdir(exist_ok=True)
    files = []
    for first in tqdm(range(0, config.num_worlds, WORLDS_PER_FILE), desc="pairs", unit="file"):
        last = min(first + WORLDS_PER_FILE, config.num_worlds)
        file = folder / f"{config.size}px_{first:06d}-{last:06d}.npz"
        if not file.exists():
            partial = file.with_name("partial.npz")
            write_pairs(partial, range(first, last), config.size)
            partial.rename(file)
        files.append(dict(np.load(file)))
    before, after, solids = (
        torch.from_numpy(np.concatenate([content[key] for content in files])) for key in ("before", "after", "solids")
    )
    return Pairs(
        before.movedim(-1, 1),
        after.movedim(-1, 1),
        solids.to(torch.uint8).unsqueeze(1),
        [str(text) for content in files for text in content["instruction"]],
    )


def fit(
    network: nn.Module,
    loss: Callable[[nn.Module, torch.Generator], Tensor],
    config: FitConfig,
    checkpoint: Path,
    name: str,
) -> nn.Module:
    """Fits a network by AdamW and returns the running mean of its weights.

    Args:
        network: On the device to train on; changed in place.
        loss: Of one batch, drawn by the generator it is given, which depends on the step alone.
        config: Steps, rates and precision.
        checkpoint: Written every so many steps and read first where it exists.
        name: Shown in the progress bar.
    """
    device = next(network.parameters()).device
    averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay))
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=0.01)
    first = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        network.load_state_dict(state["network"])
        averaged.load_state_dict(state["averaged"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    bar = tqdm(range(first, config.steps), initial=first, total=config.steps, desc=name, mininterval=5)
    for step in bar:
        rate = config.learning_rate * _rate(step, config)
        for group in optimizer.param_groups:
            group["lr"] = rate
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        with torch.autocast(device.type, torch.bfloat16, enabled=config.bf16):
            value = loss(network, generator)
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        averaged.update_parameters(network)
        if step % 50 == 0:
            bar.set_postfix(loss=f"{value.item():.4f}", refresh=False)
        if (step + 1) % config.steps_per_checkpoint == 0 or step + 1 == config.steps:
            state = {
                "network": network.state_dict(),
                "averaged": averaged.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": step + 1,
            }
            torch.save(state, checkpoint.with_suffix(".partial"))
            checkpoint.with_suffix(".partial").rename(checkpoint)
    return averaged.module.eval()


def _rate(step: int, config: FitConfig) -> float:
    """Share of the peak learning rate at a step."""
    warmup = min(1.0, (step + 1) / max(1, config.warmup_steps))
    return warmup * 0.5 * (1 + math.cos(math.pi * step / config.steps))


def fit_autoencoder(config: TrainingConfig, pairs: Pairs) -> "AutoencoderKL":
    """The autoencoder, its scaling factor measured so that scaled latents have unit variance."""
    from diffusers import AutoencoderKL

    torch.manual_seed(config.autoencoder.seed)
    settings = {
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "block_out_channels": [16, 32, 64, 64],
        "layers_per_block": 1,
        "latent_channels": 4,
        "norm_num_groups": 1,
        "sample_size": config.size,
        "mid_block_add_attention": False,
    }
    network = AutoencoderKL(**settings).to(config.device)
    batch_size, crop = config.autoencoder.batch_size, config.crop

    def loss(network: nn.Module, generator: torch.Generator) -> Tensor:
        index = torch.randint(len(pairs.before), (batch_size,), generator=generator)
        top, left = torch.randint(config.size - crop + 1, (2,), generator=generator).tolist()
        source = pairs.after if torch.rand((), generator=generator) < 0.5 else pairs.before
        images = source[index, :, top : top + crop, left : left + crop].to(config.device) / 127.5 - 1
        posterior = network.encode(images).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator).to(images)
        latents, target = posterior.mean + posterior.std * noise, images
        if torch.rand((), generator=generator) < config.equivariance:
            rows = int(torch.randint(latents.shape[-1] // 2, latents.shape[-1], (), generator=generator))
            latents = F.interpolate(latents, size=(rows, rows), mode="bilinear", antialias=True)
            side = rows * crop // posterior.mean.shape[-1]
            target = F.interpolate(images, size=(side, side), mode="bilinear", antialias=True)
        decoded = network.decode(latents).sample
        pixel_error = F.l1_loss(decoded, target) + F.mse_loss(decoded, target)
        return pixel_error + config.kl_weight * posterior.kl().mean() / latents[0].numel()

    network = fit(network, loss, config.autoencoder, config.work_dir / "autoencoder.ckpt", "autoencoder")
    with torch.no_grad():
        images = pairs.before[:: max(1, len(pairs.before) // 64)].to(config.device) / 127.5 - 1
        network.register_to_config(scaling_factor=1 / network.encode(images).latent_dist.mean.std().item())
    return network


def build_tokenizer(instructions: list[str], folder: Path) -> "CLIPTokenizer":
    """A CLIP tokenizer whose merges come from the instructions: their words are whole, others are spelled."""
    from tokenizers import pre_tokenizers
    from transformers import CLIPTokenizer

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    characters = [*letters, *(letter + "</w>" for letter in letters)]
    special = ["<|startoftext|>", "<|endoftext|>"]
    speller = CLIPTokenizer(vocab={token: index for index, token in enumerate(special + characters)}, merges=[])
    trained = speller.train_new_from_iterator(instructions, vocab_size=2000, initial_alphabet=letters)
    merges = json.loads(trained.backend_tokenizer.to_str())["model"]["merges"]
    tokens = dict.fromkeys(special + characters + ["".join(merge) for merge in merges])
    vocab = {token: index for index, token in enumerate(tokens)}
    folder.mkdir(exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False))
    rows = "\n".join(" ".join(merge) for merge in merges)
    (folder / "merges.txt").write_text(f"#version: 0.2\n{rows}\n")
    pairs = [tuple(merge) for merge in merges]
    return CLIPTokenizer(vocab=vocab, merges=pairs, model_max_length=PROMPT_TOKENS)


def tokenize(tokenizer: "CLIPTokenizer", texts: list[str]) -> Int[Tensor, "texts tokens"]:
    """Token ids, padded to the longest prompt allowed."""
    return tokenizer(texts, padding="max_length", max_length=PROMPT_TOKENS, return_tensors="pt").input_ids


@torch.no_grad()
def encode_pairs(
    config: TrainingConfig, autoencoder: "AutoencoderKL", tokenizer: "CLIPTokenizer", pairs: Pairs
) -> LatentPairs:
    """Everything the U-Net learns from, encoded once and kept beside the checkpoints."""
    file = config.work_dir / "latents.pt"
    if file.exists():
        return LatentPairs(**torch.load(file, weights_only=True))

    def encode(images: Tensor) -> Tensor:
        latents = [
            autoencoder.encode(chunk.to(config.device) / 127.5 - 1).latent_dist.mean.cpu()
            for chunk in tqdm(images.split(64), desc="latents", mininterval=5)
        ]
        return torch.cat(latents) * autoencoder.config["scaling_factor"]

    before, after = encode(pairs.before), encode(pairs.after)
    solids = F.adaptive_max_pool2d(pairs.solids.float(), before.shape[-2:])
    latents = LatentPairs(before, after, solids, tokenize(tokenizer, pairs.instructions))
    torch.save(latents._asdict(), file)
    return latents


class EditorNetworks(nn.Module):
    """The U-Net and the text encoder, which learn together."""

    def __init__(self, config: TrainingConfig, vocabulary: int, latent_channels: int, rows: int) -> None:
        """Random weights from the present seed of torch."""
        super().__init__()
        from diffusers import UNet2DConditionModel
        from transformers import CLIPTextConfig, CLIPTextModel

        deeper = len(config.channels) - 1  # Attention between the finest cells would double the cost of a step.
        self.unet = UNet2DConditionModel(
            sample_size=rows,
            in_channels=2 * latent_channels,
            out_channels=latent_channels,
            block_out_channels=config.channels,
            layers_per_block=1,
            down_block_types=("DownBlock2D", *["CrossAttnDownBlock2D"] * deeper),
            up_block_types=(*["CrossAttnUpBlock2D"] * deeper, "UpBlock2D"),
            cross_attention_dim=config.text_width,
            attention_head_dim=4,
            norm_num_groups=16,
        )
        self.text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=vocabulary,
                hidden_size=config.text_width,
                intermediate_size=2 * config.text_width,
                num_hidden_layers=2,
                num_attention_heads=4,
                max_position_embeddings=PROMPT_TOKENS,
                projection_dim=config.text_width,
                bos_token_id=0,
                eos_token_id=1,
                pad_token_id=1,
            )
        )

    def forward(self, noisy: Tensor, condition: Tensor, timesteps: Tensor, tokens: Tensor) -> Tensor:
        """The U-Net's prediction."""
        text = self.text_encoder(tokens).last_hidden_state
        return self.unet(torch.cat([noisy, condition], dim=1), timesteps, text).sample


def noise_scheduler() -> "DDIMScheduler":
    """Stable Diffusion's schedule, with velocity as what is predicted.

    A velocity stays well conditioned where a picture is nearly all noise, and there colour is decided.
    """
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="v_prediction",
    )


def fit_editor(config: TrainingConfig, pairs: LatentPairs, tokenizer: "CLIPTokenizer", scale: float) -> nn.Module:
    """U-Net and text encoder, by denoising the edited view given the unedited one and the instruction."""
    torch.manual_seed(config.editor.seed)
    _, channels, rows, _ = pairs.before.shape
    networks = EditorNetworks(config, len(tokenizer), channels, rows)
    networks = networks.to(config.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    loss = EditorLoss(config, pairs, tokenize(tokenizer, [""]), scale)
    networks = fit(networks, loss, config.editor, config.work_dir / "editor.ckpt", "editor")
    noisy = replace(
        config, editor=config.grounding, unchanged=config.unchanged / 2, image_dropped=config.image_dropped / 2
    )
    loss = EditorLoss(noisy, pairs, tokenize(tokenizer, [""]), scale, config.grounding_noise)
    return fit(networks.train(), loss, config.grounding, config.work_dir / "grounding.ckpt", "grounding")


class EditorLoss:
    """The weighted denoising loss of one batch of pairs."""

    def __init__(
        self,
        config: TrainingConfig,
        pairs: LatentPairs,
        empty: Int[Tensor, "1 tokens"],
        scale: float,
        noisiest: float = 1.0,
    ) -> None:
        """Draws three of four timesteps from the ``noisiest`` share of the schedule, the others from all of it."""
        self.config, self.pairs, self.empty, self.scale, self.noisiest = config, pairs, empty, scale, noisiest
        self.scheduler = noise_scheduler()

    def __call__(self, networks: nn.Module, generator: torch.Generator) -> Tensor:
        """The loss of the batch that the generator draws."""
        config, pairs, device = self.config, self.pairs, self.config.device
        index = torch.randint(len(pairs.before), (config.editor.batch_size,), generator=generator)
        unchanged, image_dropped, text_dropped = _drops(config, generator)
        before, after, solids = pairs.before[index], pairs.after[index], pairs.solids[index]
        tokens = torch.where((unchanged | text_dropped)[:, None], self.empty, pairs.tokens[index])
        clean = torch.where(_over_pixels(unchanged), before, after).to(device)
        weight = (1 + config.solids_weight * solids).to(device)
        condition = torch.where(_over_pixels(image_dropped), 0 * before, before / self.scale).to(device)
        timesteps = self._timesteps(generator).to(device)
        noise = torch.randn(clean.shape, generator=generator).to(device)
        noisy = self.scheduler.add_noise(clean, noise, timesteps)
        target = self.scheduler.get_velocity(clean, noise, timesteps)
        prediction = networks(noisy, condition, timesteps, tokens.to(device))
        return (weight * (prediction.float() - target) ** 2).mean()

    def _timesteps(self, generator: torch.Generator) -> Int[Tensor, " batch"]:
        """Mostly noisy ones: one minus a square."""
        batch_size = self.config.editor.batch_size
        everywhere = torch.rand(batch_size, generator=generator) < 0.25
        share = torch.where(everywhere, 1.0, self.noisiest)
        late = 1 - share * torch.rand(batch_size, generator=generator) ** 2
        return (late * (self.scheduler.config["num_train_timesteps"] - 1)).round().long()


def _drops(config: TrainingConfig, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Per picture of a batch: whether nothing is to change, the image is left out, the text is left out."""
    draw = torch.rand(config.editor.batch_size, generator=generator)
    image_dropped = draw < config.image_dropped
    unchanged = ~image_dropped & (draw < config.image_dropped + config.unchanged)
    return unchanged, image_dropped, draw < config.image_dropped / 2


def _over_pixels(flags: Tensor) -> Tensor:
    """Flags of a batch, broadcast over channels and both sides."""
    return flags[:, None, None, None]


def save_pipeline(folder: Path, autoencoder: "AutoencoderKL", tokenizer: "CLIPTokenizer", networks: nn.Module) -> None:
    """Writes the folder that diffusers and this package load."""
    from diffusers import StableDiffusionInstructPix2PixPipeline

    pipeline = StableDiffusionInstructPix2PixPipeline(
        vae=autoencoder,
        text_encoder=networks.text_encoder,
        tokenizer=tokenizer,
        unet=networks.unet,
        scheduler=noise_scheduler(),
        safety_checker=None,  # pyright: ignore[reportArgumentType]
        feature_extractor=None,  # pyright: ignore[reportArgumentType]
        requires_safety_checker=False,
    )
    pipeline.to(torch.float16).save_pretrained(folder, safe_serialization=True)
