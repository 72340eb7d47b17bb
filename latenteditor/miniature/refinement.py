"""Goes on with a finished editor: new shapes, materials and removals above all, at the size that is shown.

Autoencoder and tokenizer stay as they are. Half of the pictures that the U-Net meets hold noise on what a scene shows
before its edit, or are where a step of its own led, so that the last steps of an edit mend what the first ones began.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from latenteditor.miniature.editor_networks import EditorLoss, EditorNetworks, EditorTrainingConfig
from latenteditor.miniature.families import load_families
from latenteditor.miniature.fitting import FitConfig, fit
from latenteditor.miniature.photographs import read_photographs
from latenteditor.miniature.training_data import LatentPairs, Pairs, encode_pairs, load_pairs, tokenize

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from transformers import CLIPTokenizer

FIRST_CLOSE, FIRST_WIDE, FIRST_SMALL, FIRST_LARGE = 200_000, 300_000, 400_000, 500_000
"""Seeds from which each source takes its worlds: none that an editor was trained on before, or is evaluated on."""
KEPT_SHARES = {
    "colour": 0.15,
    "group": 0.45,
    "shape": 0.05,
    "material": 0.05,
    "colour and shape": 0.03,
    "colour and material": 0.04,
    "removal": 0.05,
    "look": 0.18,
}
"""How often each kind of instruction is given where families have none: mostly what they cannot teach."""


@dataclass
class RefinementConfig:
    """What a finished editor learns from last, and how."""

    small_size: int = 128
    """Pixels of either side of close and of small views."""
    large_size: int = 256
    """Pixels of either side of wide and of large views."""
    num_close: int = 640
    """Families of small views that show one solid as large as a view of twice the size does."""
    num_wide: int = 80
    """Families of large views."""
    num_small: int = 100
    """Worlds in small views, with instructions mostly about several solids or the whole picture."""
    num_large: int = 60
    """The same in large views."""
    num_photograph_batches: int = 100
    """How often a few small views are cut from photographs."""
    num_large_photograph_batches: int = 25
    """The same with large views."""
    shares: tuple[float, ...] = (0.55, 0.2, 0.08, 0.17)
    """How often a gradient step takes close families, wide ones, small views of worlds or photographs, large ones; what
    is never taken is not made."""
    large_batch_size: int = 6
    """Large views per step."""
    editor: EditorTrainingConfig = field(
        default_factory=lambda: EditorTrainingConfig(
            fit=FitConfig(
                steps=3000,
                batch_size=24,
                learning_rate=4e-4,
                ema_decay=0.995,
                warmup_steps=50,
                decay_share=0.4,
                steps_per_checkpoint=50,
            ),
            grounding_weight=0.0,
            outline_weight=4.0,
            rendered_share=0.5,
            own_share=0.4,
        )
    )
    """Its gradient steps and losses; channels and text layers are those of the finished editor."""


class Source(NamedTuple):
    """Some pairs, and how they are met."""

    share: float
    """Of the gradient steps."""
    batch_size: int
    pairs: LatentPairs


def refine(
    config: RefinementConfig,
    start_from: Path,
    work_dir: Path,
    photographs: Path | None,
    device: str,
) -> EditorNetworks:
    """U-Net and text encoder of a finished pipeline folder, after further steps.

    Args:
        config: What it learns from, and how.
        start_from: The pipeline folder.
        work_dir: Keeps pairs, latents and the checkpoint.
        photographs: A folder to cut views from.
        device: Any torch device.
    """
    frozen, tokenizer = load_frozen(start_from)
    autoencoder: Any = frozen.to(device)  # pyright: ignore[reportArgumentType]
    sources = _sources(config, work_dir, photographs, autoencoder, tokenizer, device)
    torch.manual_seed(config.editor.fit.seed)
    networks: Any = EditorNetworks.from_pipeline(start_from, sources[0].pairs)
    networks = networks.to(device, memory_format=torch.channels_last)
    loss = SourcesLoss(config.editor, sources, tokenize(tokenizer, [""]), autoencoder.config["scaling_factor"])
    fitted: Any = fit(networks, loss, config.editor.fit, work_dir / "refined_editor.ckpt", "editor, refined")
    return fitted


def load_frozen(folder: Path) -> "tuple[AutoencoderKL, CLIPTokenizer]":
    """What of a pipeline folder stays as it is: its autoencoder, in full precision, and its tokenizer."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from transformers import CLIPTokenizer

    autoencoder: Any = AutoencoderKL.from_pretrained(folder, subfolder="vae")
    return autoencoder.float(), CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer")


class SourcesLoss:
    """The loss of a batch of one source, drawn as often as the sources' shares say."""

    def __init__(self, config: EditorTrainingConfig, sources: list[Source], empty: Tensor, scale: float) -> None:
        """``empty`` is the empty instruction, ``scale`` the autoencoder's."""
        self._shares = torch.tensor([source.share for source in sources])
        self._losses = [
            EditorLoss(
                replace(config, fit=replace(config.fit, batch_size=source.batch_size)), source.pairs, empty, scale
            )
            for source in sources
        ]

    def __call__(self, networks: Any, generator: torch.Generator) -> Tensor:
        """The loss of the batch that the generator draws."""
        source = int(torch.multinomial(self._shares, 1, generator=generator))
        return self._losses[source](networks, generator)


def _sources(
    config: RefinementConfig,
    work_dir: Path,
    photographs: Path | None,
    autoencoder: "AutoencoderKL",
    tokenizer: "CLIPTokenizer",
    device: str,
) -> list[Source]:
    """Everything it learns from, made and encoded where that is not done yet; each source's pixels are let go."""
    folder, small, large = work_dir / "pairs", config.small_size, config.large_size
    few, fewer = (config.num_photograph_batches, config.num_large_photograph_batches) if photographs else (0, 0)
    close, wide = range(FIRST_CLOSE, FIRST_CLOSE + config.num_close), range(FIRST_WIDE, FIRST_WIDE + config.num_wide)
    makers: list[tuple[str, Any]] = [
        (f"close_{config.num_close}", lambda: load_families(folder, close, small, True)),
        (f"wide_{config.num_wide}", lambda: load_families(folder, wide, large, False)),
        (f"small_{config.num_small}_{few}", lambda: worlds(small, FIRST_SMALL, config.num_small, few)),
        (f"large_{config.num_large}_{fewer}", lambda: worlds(large, FIRST_LARGE, config.num_large, fewer)),
    ]
    batch_sizes = [config.editor.fit.batch_size, config.large_batch_size] * 2

    def worlds(size: int, first: int, count: int, batches: int) -> Pairs:
        pictures = read_photographs(photographs) if photographs else []
        return load_pairs(folder, count, size, pictures, batches, first, KEPT_SHARES)

    sources = []
    for share, batch_size, (name, make) in zip(config.shares, batch_sizes, makers, strict=True):
        if share == 0:
            continue
        file = work_dir / f"{name}_latents.pt"
        pairs: Pairs | None = None if file.exists() else make()
        sources.append(Source(share, batch_size, encode_pairs(pairs, autoencoder, tokenizer, file, device)))
    return sources
