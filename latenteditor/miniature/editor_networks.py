"""The built-in editor's U-Net and text encoder, and what they learn from a batch of pairs."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from latenteditor.miniature.fitting import FitConfig
from latenteditor.miniature.training_data import PROMPT_TOKENS, LatentPairs

if TYPE_CHECKING:
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

LEAST_RENDERED = 300
"""Timestep up to which noise is added to the clean picture alone: edits do not start from so little."""


@dataclass
class EditorTrainingConfig:
    """How U-Net and text encoder are made and fitted."""

    fit: FitConfig = field(default_factory=lambda: FitConfig(steps=13000, batch_size=32, ema_decay=0.999, bf16=True))
    """Their gradient steps."""
    channels: tuple[int, ...] = (64, 128, 128)
    """Of the U-Net's levels."""
    text_width: int = 96
    """Of the text encoder."""
    text_layers: int = 2
    """Of the text encoder."""
    solids_weight: float = 4.0
    """Extra weight of the loss where there is a solid, named by the instruction or not: what must change and what
    must not is decided there, and floor and sky fill most of a view."""
    region_weight: float = 8.0
    """Extra weight of the loss where the instruction changes the picture."""
    outline_weight: float = 0.0
    """Extra weight of the loss along the outline of what changes, one cell to either side."""
    rendered_share: float = 0.0
    """How often noise is added to a mixture of the picture as it is and as it should be: an edit starts from what a
    scene shows, which is not yet what is asked for."""
    own_share: float = 0.0
    """How often the noisy picture is where a denoising step of the network itself leads, from more noise: in use all
    but the first are, and what earlier steps got wrong can then be put right instead of being built upon."""
    grounding_weight: float = 0.5
    """Of two further losses, on layers that are thrown away afterwards: what shape and colour each cell shows, and
    which cells the instruction means. They teach the U-Net to see and to read sooner than denoising does."""
    unchanged: float = 0.12
    """How often the instruction is empty and the picture stays as it is: "no prompt" then means "no edit", so
    that the delta score lights up where the prompt applies and nowhere else."""
    image_dropped: float = 0.05
    """How often the image condition is left out; in half of these the instruction is empty too."""


class EditorNetworks(nn.Module):
    """The U-Net and the text encoder, which learn together, and two layers that help them and are not saved."""

    def __init__(self, config: EditorTrainingConfig, vocabulary: int, pairs: LatentPairs) -> None:
        """Random weights from the present seed of torch.

        The text reaches the U-Net in two ways: by cross-attention below the finest level, where attention would
        double the cost of a step, and, pooled, through the scales and shifts of every residual block.
        """
        super().__init__()
        self.unet: Any = self._make_unet(config, *pairs.before.shape[1:3])
        self.text_encoder: Any = self._make_text_encoder(config, vocabulary)
        self._add_heads(config.channels, pairs)

    @staticmethod
    def _make_unet(config: EditorTrainingConfig, latent_channels: int, rows: int) -> Any:
        """The network that denoises."""
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

        channels = config.channels
        deeper = len(channels) - 1
        return UNet2DConditionModel(
            sample_size=rows,
            in_channels=2 * latent_channels,
            out_channels=latent_channels,
            block_out_channels=channels,
            layers_per_block=1,
            down_block_types=("DownBlock2D", *["CrossAttnDownBlock2D"] * deeper),
            up_block_types=(*["CrossAttnUpBlock2D"] * deeper, "UpBlock2D"),
            cross_attention_dim=config.text_width,
            attention_head_dim=4,
            norm_num_groups=16,
            addition_embed_type="text",
            addition_embed_type_num_heads=4,
            resnet_time_scale_shift="scale_shift",
        )

    @staticmethod
    def _make_text_encoder(config: EditorTrainingConfig, vocabulary: int) -> Any:
        """The network that reads instructions."""
        from transformers import CLIPTextConfig, CLIPTextModel

        text_width = config.text_width
        return CLIPTextModel(
            CLIPTextConfig(
                vocab_size=vocabulary,
                hidden_size=text_width,
                intermediate_size=2 * text_width,
                num_hidden_layers=config.text_layers,
                num_attention_heads=4,
                max_position_embeddings=PROMPT_TOKENS,
                projection_dim=text_width,
                bos_token_id=0,
                eos_token_id=1,
                pad_token_id=1,
            )
        )

    def _add_heads(self, channels: tuple[int, ...], pairs: LatentPairs) -> None:
        """The two layers that help."""
        self.classify = nn.Conv2d(channels[-2], pairs.shapes.shape[1] + pairs.colours.shape[1], 1)
        self.locate = nn.Conv2d(channels[0], 1, 1)
        # What a cell shows must be known where the coarser half of the way up begins, before it attends to the text.
        self._features: dict[str, Tensor] = {}
        self.unet.up_blocks[1].resnets[0].register_forward_hook(lambda _, __, out: self._features.update(coarse=out))
        self.unet.conv_act.register_forward_hook(lambda _, __, out: self._features.update(fine=out))

    @classmethod
    def from_pipeline(cls, folder: Path, pairs: LatentPairs) -> "EditorNetworks":
        """The networks of a finished pipeline folder, in full precision; the layers that help are new."""
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
        from transformers import CLIPTextModel

        networks = cls.__new__(cls)
        nn.Module.__init__(networks)
        networks.unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet").float()
        networks.text_encoder = CLIPTextModel.from_pretrained(folder, subfolder="text_encoder").float()
        networks._add_heads(tuple(networks.unet.config["block_out_channels"]), pairs)
        return networks

    def forward(
        self, noisy: Tensor, condition: Tensor, timesteps: Tensor, tokens: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The U-Net's prediction; what the coarse cells show; which fine cells the instruction means.

        The last two are logits.
        """
        text = self.text_encoder(tokens).last_hidden_state
        prediction = self.unet(torch.cat([noisy, condition], dim=1), timesteps, text).sample
        return prediction, self.classify(self._features.pop("coarse")), self.locate(self._features.pop("fine"))


def noise_scheduler() -> "DDIMScheduler":
    """Stable Diffusion's schedule, with velocity as what is predicted.

    A velocity stays well conditioned where a picture is nearly all noise, and there colour is decided.
    """
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="v_prediction",
    )


class Batch(NamedTuple):
    """Some edits as the network meets them."""

    clean: Float[Tensor, "batch channels rows columns"]
    """What the network should say: the edited picture, or the unedited one under the empty instruction."""
    other: Float[Tensor, "batch channels rows columns"]
    """Of the edited and the unedited picture the one that is not asked for."""
    condition: Float[Tensor, "batch channels rows columns"]
    """Unscaled latents of the unedited picture, or zeros."""
    tokens: Int[Tensor, "batch tokens"]
    timesteps: Int[Tensor, " batch"]
    noise: Float[Tensor, "batch channels rows columns"]
    rendered: Float[Tensor, " batch"]
    """How much of the other picture there is in what noise is added to."""
    own: Bool[Tensor, " batch"]
    """Whether the network's own step from `earlier` leads to what it is given."""
    earlier: Int[Tensor, " batch"]
    image_seen: Bool[Tensor, " batch"]
    region: Float[Tensor, "batch 1 rows columns"]
    shapes: Float[Tensor, "batch _ rows columns"]
    colours: Float[Tensor, "batch _ rows columns"]
    weight: Float[Tensor, "batch 1 rows columns"]


class EditorLoss:
    """The weighted denoising loss of one batch of pairs, and how well the instruction is grounded in the view."""

    def __init__(
        self, config: EditorTrainingConfig, pairs: LatentPairs, empty: Int[Tensor, "1 tokens"], scale: float
    ) -> None:
        """``empty`` is the empty instruction, ``scale`` the autoencoder's."""
        self.config, self.pairs, self.empty, self.scale = config, pairs, empty, scale
        self.scheduler: Any = noise_scheduler()

    def __call__(self, networks: nn.Module, generator: torch.Generator) -> Tensor:
        """The loss of the batch that the generator draws."""
        device = next(networks.parameters()).device
        batch = Batch(*(value.to(device) for value in self._draw(generator)))
        noisy = self._noisy(networks, batch)
        prediction, classes, located = networks(noisy, batch.condition, batch.timesteps, batch.tokens)
        alpha, sigma = self._scales(batch.timesteps)
        # The velocity that leads from here to the clean picture: the usual one where the noise was added to it.
        target = (alpha * noisy - batch.clean) / sigma
        # Elsewhere an error counts as one of the clean picture; as one of the velocity it would have no bound.
        astray = batch.own | (batch.rendered > 0)
        weight = batch.weight * torch.where(_over_cells(astray), sigma**2, 1.0)
        loss = (weight * (prediction.float() - target) ** 2).mean()
        if self.config.grounding_weight == 0:
            return loss
        seen = _over_cells(batch.image_seen).float()
        grounding = (
            batch.weight * seen * F.binary_cross_entropy_with_logits(located.float(), batch.region, reduction="none")
        )
        classified = self._classification(classes, batch.shapes, batch.colours, seen)
        return loss + self.config.grounding_weight * (grounding.mean() + classified)

    def _draw(self, generator: torch.Generator) -> "Batch":
        """Some edits, and what becomes of each."""
        config, pairs, count = self.config, self.pairs, self.config.fit.batch_size
        edit = torch.randint(len(pairs.view), (count,), generator=generator)
        unchanged, image_dropped, text_dropped = self._drops(generator)
        timesteps = self._timesteps(generator)
        before, after = pairs.before[pairs.view[edit]], pairs.after[pairs.target[edit]]
        noise = torch.randn(before.shape, generator=generator)
        # Drawn only where used, so that a fit without them draws what it always drew.
        rendered, own, earlier = torch.zeros(count), torch.zeros(count, dtype=torch.bool), timesteps
        if config.rendered_share > 0 or config.own_share > 0:
            draws = torch.rand(4, count, generator=generator)
            rendered = torch.where(draws[0] < config.rendered_share, (2 * draws[1]).clamp(max=1), 0)
            rendered = rendered * (timesteps > LEAST_RENDERED)
            own = (draws[2] < config.own_share) & ~image_dropped
            last = self.scheduler.config["num_train_timesteps"] - 1
            earlier = torch.where(own, timesteps + (draws[3] * (last - timesteps)).round().long(), timesteps)
        region = torch.where(_over_cells(unchanged), 0.0, pairs.region[edit].float())
        shapes, colours = (classes[pairs.view[edit]].float() for classes in (pairs.shapes, pairs.colours))
        return Batch(
            clean=torch.where(_over_cells(unchanged), before, after),
            other=torch.where(_over_cells(unchanged), after, before),
            condition=torch.where(_over_cells(image_dropped), 0.0, before / self.scale),
            tokens=torch.where((unchanged | text_dropped)[:, None], self.empty, pairs.tokens[edit]),
            timesteps=timesteps,
            noise=noise,
            rendered=rendered,
            own=own,
            earlier=earlier,
            image_seen=~image_dropped,
            region=region,
            shapes=shapes,
            colours=colours,
            weight=self._weights(shapes, region),
        )

    def _weights(self, shapes: Tensor, region: Tensor) -> Tensor:
        """How much each cell counts, one on average in every picture."""
        config = self.config
        weight = 1 + config.solids_weight * (1 - shapes[:, :1]) + config.region_weight * region
        if config.outline_weight > 0:
            changed = (region > 0).float()
            outline = F.max_pool2d(changed, 3, 1, 1) - (1 - F.max_pool2d(1 - (region > 0.999).float(), 3, 1, 1))
            weight = weight + config.outline_weight * outline
        return weight / weight.mean(dim=(1, 2, 3), keepdim=True)

    def _noisy(self, networks: nn.Module, batch: "Batch") -> Tensor:
        """What the network is given: noise on the clean picture or what is rendered, or its own step from there."""
        source = torch.lerp(batch.clean, batch.other, _over_cells(batch.rendered))
        alpha, sigma = self._scales(batch.earlier)
        noisy = alpha * source + sigma * batch.noise
        own = batch.own
        if not own.any():
            return noisy
        with torch.no_grad():
            velocity = networks(noisy[own], batch.condition[own], batch.earlier[own], batch.tokens[own])[0].float()
            clean = alpha[own] * noisy[own] - sigma[own] * velocity
            noise = sigma[own] * noisy[own] + alpha[own] * velocity
            alpha, sigma = self._scales(batch.timesteps[own])
            noisy[own] = alpha * clean + sigma * noise
        return noisy

    def _scales(self, timesteps: Int[Tensor, " batch"]) -> tuple[Tensor, Tensor]:
        """How much of the picture and of the noise there is."""
        kept = self.scheduler.alphas_cumprod.to(timesteps.device)[timesteps][:, None, None, None]
        return kept.sqrt(), (1 - kept).sqrt()

    def _classification(self, classes: Tensor, shapes: Tensor, colours: Tensor, seen: Tensor) -> Tensor:
        """Cross entropy of what the coarse cells show, over the views with solids whose image was not left out."""
        (rows, columns), device = classes.shape[-2:], classes.device
        shapes, colours = (F.adaptive_avg_pool2d(shares, (rows, columns)).to(device) for shares in (shapes, colours))
        solids = 1 - shapes[:, :1]
        weight = (
            (1 + self.config.solids_weight * solids) * (solids.sum(dim=(1, 2, 3), keepdim=True) > 0) * seen.to(device)
        )
        shape_logits, colour_logits = classes.float().split([shapes.shape[1], colours.shape[1]], dim=1)
        terms = shapes * shape_logits.log_softmax(dim=1), colours * colour_logits.log_softmax(dim=1)
        return -(weight * torch.cat(terms, dim=1).sum(dim=1, keepdim=True)).mean()

    def _timesteps(self, generator: torch.Generator) -> Int[Tensor, " batch"]:
        """Mostly noisy ones: one minus a square."""
        late = 1 - torch.rand(self.config.fit.batch_size, generator=generator) ** 2
        return (late * (self.scheduler.config["num_train_timesteps"] - 1)).round().long()

    def _drops(self, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Per picture of a batch: whether nothing is to change, the image is left out, the text is left out."""
        draw = torch.rand(self.config.fit.batch_size, generator=generator)
        image_dropped = draw < self.config.image_dropped
        unchanged = ~image_dropped & (draw < self.config.image_dropped + self.config.unchanged)
        return unchanged, image_dropped, draw < self.config.image_dropped / 2


def _over_cells(flags: Shaped[Tensor, " batch"]) -> Shaped[Tensor, "batch 1 1 1"]:
    """Flags or numbers of a batch, broadcast over channels and both sides."""
    return flags[:, None, None, None]
