"""What the built-in editor learns from: pairs of views on disk, and the same as latents and tokens."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from tqdm.auto import tqdm

from latenteditor.miniature.pairs import Edit, View, photograph_pairs, world_pairs, write_pairs
from latenteditor.miniature.parallel import gather, num_processes, process_index, share, wait_for_all
from latenteditor.worlds.instructions import TAUGHT_SHARES
from latenteditor.worlds.world import COLOURS, SHAPES

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from transformers import CLIPTokenizer

BATCHES_PER_FILE = 100
PROMPT_TOKENS = 32
"""Longest prompt, in tokens, start and end included."""
SPECIAL_TOKENS = ["<|startoftext|>", "<|endoftext|>"]


class Pairs(NamedTuple):
    """Views, and edits of them; an edit's view is found by its index."""

    before: UInt8[Tensor, "views size size 3"]
    shapes: UInt8[Tensor, "views size size"]
    """Per pixel 0 or a solid's shape counted from 1."""
    colours: UInt8[Tensor, "views size size"]
    """Per pixel 0 or a solid's colour counted from 1."""
    view: Int[Tensor, " edits"]
    after: UInt8[Tensor, "edited size size 3"]
    """What edits lead to; of families of views, the views themselves."""
    target: Int[Tensor, " edits"]
    """Which of them each edit leads to."""
    region: UInt8[Tensor, "edits size size"]
    """1 where an edit changes its view."""
    instructions: list[str]


class LatentPairs(NamedTuple):
    """Views and edits as the U-Net meets them."""

    before: Float[Tensor, "views channels rows columns"]
    """Scaled latents."""
    shapes: Float[Tensor, "views shapes rows columns"]
    """The share of each cell that shows nothing, and each shape."""
    colours: Float[Tensor, "views colours rows columns"]
    """The share of each cell that shows nothing, and each colour."""
    view: Int[Tensor, " edits"]
    after: Float[Tensor, "edited channels rows columns"]
    """Scaled latents."""
    target: Int[Tensor, " edits"]
    region: Float[Tensor, "edits 1 rows columns"]
    """The share of each cell that an edit changes."""
    tokens: Int[Tensor, "edits tokens"]


def load_pairs(
    folder: Path,
    num_worlds: int,
    size: int,
    photographs: list[np.ndarray],
    num_photograph_batches: int,
    first_world: int = 0,
    shares: dict[str, float] = TAUGHT_SHARES,
) -> Pairs:
    """Makes the pairs that are not on disk yet, each process some of the files, and reads all of them.

    Args:
        folder: Keeps the files.
        num_worlds: The worlds from seed `first_world` on.
        size: Pixels of either side of a view.
        photographs: To cut views from.
        num_photograph_batches: How often a few views are cut from photographs.
        first_world: Seed of the first world.
        shares: How often a world is given each kind of instruction.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sources: list[tuple[str, range, Callable[[int], tuple[list[View], list[Edit]]]]] = [
        ("worlds", range(first_world, first_world + num_worlds), lambda seed: world_pairs(seed, size, shares)),
        ("photographs", range(num_photograph_batches), lambda seed: photograph_pairs(photographs, seed, size)),
    ]
    files = [
        (folder / f"{name}_{size}px_{first:06d}-{min(first + BATCHES_PER_FILE, seeds.stop):06d}.npz", first, make)
        for name, seeds, make in sources
        for first in range(seeds.start, seeds.stop, BATCHES_PER_FILE)
    ]
    mine = files[process_index() :: num_processes()]
    for file, first, make in tqdm(mine, desc=f"pairs, {size} px", unit="file", disable=process_index() > 0):
        _make_file(file, first, make)
    wait_for_all()
    return _join([dict(np.load(file)) for file, _, _ in files])


def _join(contents: list[dict[str, np.ndarray]]) -> Pairs:
    """The contents of several files as one; takes them apart, so that nothing is held twice."""
    offsets = np.cumsum([0, *(len(content["before"]) for content in contents)])
    for content, offset in zip(contents, offsets, strict=False):
        content["view"] = content["view"] + offset

    def joined(name: str) -> Tensor:
        return torch.from_numpy(np.concatenate([content.pop(name) for content in contents]))

    instructions = [str(words) for content in contents for words in content.pop("instruction")]
    return Pairs(
        before=joined("before"),
        shapes=joined("shapes"),
        colours=joined("colours"),
        view=joined("view"),
        after=joined("after"),
        target=torch.arange(len(instructions)),
        region=joined("region").to(torch.uint8),
        instructions=instructions,
    )


def _make_file(file: Path, first: int, make: Callable[[int], tuple[list[View], list[Edit]]]) -> None:
    """Writes a file of pairs if it is not there; its name ends in its first and its last seed."""
    if not file.exists():
        last = int(file.stem.rpartition("-")[2])
        partial = file.with_name(f"partial_{file.name}")
        write_pairs(partial, [make(seed) for seed in range(first, last)])
        partial.rename(file)


def build_tokenizer(instructions: list[str], folder: Path) -> "CLIPTokenizer":
    """A CLIP tokenizer whose merges come from the instructions: their words are whole, others are spelled.

    A folder that holds one already is read instead, so that tokens keep their meaning.
    """
    from transformers import CLIPTokenizer

    vocab_file, merges_file = folder / "vocab.json", folder / "merges.txt"
    if not merges_file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        merges = _merges(instructions)
        tokens = dict.fromkeys(SPECIAL_TOKENS + _characters() + ["".join(merge) for merge in merges])
        vocab_file.write_text(json.dumps({token: index for index, token in enumerate(tokens)}, ensure_ascii=False))
        rows = "\n".join(" ".join(merge) for merge in merges)
        merges_file.write_text(f"#version: 0.2\n{rows}\n")
    pairs: Any = [tuple(row.split(" ")) for row in merges_file.read_text().splitlines()[1:]]
    return CLIPTokenizer(vocab=json.loads(vocab_file.read_text()), merges=pairs, model_max_length=PROMPT_TOKENS)


def _characters() -> list[str]:
    """Every byte as CLIP writes it, within a word and at its end."""
    from tokenizers import pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    return [*letters, *(letter + "</w>" for letter in letters)]


def _merges(instructions: list[str]) -> list[list[str]]:
    """The pairs of pieces that are joined to words, the most frequent ones first."""
    from transformers import CLIPTokenizer

    characters = _characters()
    vocab = {token: index for index, token in enumerate(SPECIAL_TOKENS + characters)}
    speller = CLIPTokenizer(vocab=vocab, merges=[])
    letters = characters[: len(characters) // 2]
    trained = speller.train_new_from_iterator(instructions, vocab_size=2000, initial_alphabet=letters)
    return json.loads(trained.backend_tokenizer.to_str())["model"]["merges"]


def tokenize(tokenizer: "CLIPTokenizer", texts: list[str]) -> Int[Tensor, "texts tokens"]:
    """Token ids, padded to the longest prompt allowed."""
    return tokenizer(texts, padding="max_length", max_length=PROMPT_TOKENS, return_tensors="pt").input_ids


@torch.no_grad()
def encode_pairs(
    pairs: Pairs | None, autoencoder: "AutoencoderKL", tokenizer: "CLIPTokenizer", file: Path, device: str
) -> LatentPairs:
    """Everything the U-Net learns from, encoded once, by each process a part, and kept in a file.

    Where the file is there, it is read, and no pairs are needed.
    """
    if file.exists():
        return LatentPairs(**torch.load(file, weights_only=True))
    assert pairs is not None

    network: Any = autoencoder

    def encode(images: Tensor) -> Tensor:
        latents = [
            network.encode(to_network(chunk).to(device)).latent_dist.mean.cpu()
            for chunk in tqdm(share(images).split(64), desc="latents", mininterval=5, disable=process_index() > 0)
        ]
        return gather(torch.cat(latents)) * network.config["scaling_factor"]

    before = encode(pairs.before)
    after = before if pairs.after is pairs.before else encode(pairs.after)
    latents = LatentPairs(
        before=before,
        shapes=_shares(pairs.shapes, len(SHAPES) + 1, before.shape[-2:]),
        colours=_shares(pairs.colours, len(COLOURS) + 1, before.shape[-2:]),
        view=pairs.view,
        after=after,
        target=pairs.target,
        region=_shares(pairs.region, 2, before.shape[-2:])[:, 1:],
        tokens=tokenize(tokenizer, pairs.instructions),
    )
    if process_index() == 0:
        partial = file.with_suffix(".partial")
        torch.save(latents._asdict(), partial)
        partial.rename(file)
    return latents


def to_network(images: UInt8[Tensor, "images height width 3"]) -> Float[Tensor, "images 3 height width"]:
    """Pictures in the range and the order that an autoencoder takes."""
    return images.movedim(-1, 1) / 127.5 - 1


def _shares(
    classes: UInt8[Tensor, "views height width"], count: int, cells: torch.Size
) -> Float[Tensor, "views count rows columns"]:
    """How much of each latent cell belongs to each class."""
    chunks = [
        F.adaptive_avg_pool2d(F.one_hot(chunk.long(), count).movedim(-1, 1).float(), (cells[0], cells[1]))
        for chunk in classes.split(256)
    ]
    return torch.cat(chunks)
