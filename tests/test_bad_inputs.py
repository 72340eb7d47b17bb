"""What somebody can mistype, and the one line that each mistake is answered with."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from latenteditor.editing.edit_schedule import EditScheduleConfig
from latenteditor.worlds.dataset import write_dataset, write_truth
from latenteditor.worlds.world import random_world
from tests import runs


@dataclass
class Workplace:
    """What is right, to get one thing wrong with."""

    folder: Path
    """Empty."""
    data: Path
    model: Path
    edited: Path
    """Checkpoints of an edited run of five views."""
    reconstructed: Path
    """Checkpoints of a reconstruction."""
    monkeypatch: pytest.MonkeyPatch

    def edit(self, **options: Any) -> Any:
        """Sets up an edit, up to its first step; a double underscore stands for a dot."""
        dotted = {name.replace("__", "."): value for name, value in options.items()}
        data, model = dotted.pop("data", self.data), dotted.pop("model", self.model)
        return runs.set_up(runs.edit(data, model, self.folder / "run", 8, **dotted))

    def copy(self, source: Path) -> Path:
        """A copy to damage."""
        return shutil.copytree(source, self.folder / source.name)

    def edited_file(self, source: Path, name: str, **changes: Any) -> Path:
        """A copy in one of whose JSON files some entries are changed."""
        copied = self.copy(source)
        (copied / name).write_text(json.dumps(json.loads((copied / name).read_text()) | changes))
        return copied

    def without(self, source: Path, name: str) -> Path:
        """A copy that lacks a file or a folder."""
        copied = self.copy(source)
        shutil.rmtree(copied / name) if (copied / name).is_dir() else (copied / name).unlink()
        return copied

    def file(self, name: str, content: bytes = b"") -> Path:
        """A file in a folder that holds nothing else."""
        path = self.folder / "single" / name
        path.parent.mkdir()
        path.write_bytes(content)
        return path

    def empty(self) -> Path:
        """A folder without files."""
        (self.folder / "empty").mkdir()
        return self.folder / "empty"

    def checkpoint(self, **pipeline: torch.Tensor) -> Path:
        """A folder with one checkpoint that holds this and no more."""
        path = self.file("step-000000009.ckpt")
        state = {"step": 9, "pipeline": pipeline, "optimizers": {}, "schedulers": {}, "scalers": {}}
        torch.save(state, path)
        return path.parent

    def world(self, num_views: int = 2, num_held_out: int = 2, size: int = 16) -> Path:
        """A world of another kind."""
        folder = self.folder / "world"
        write_dataset(folder, random_world(1), num_views, num_held_out, size, seed=1)
        return folder

    def offline(self) -> None:
        """Takes the hub away."""
        self.monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        self.monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(self.folder))

    def autoencoder(self, channels: int) -> Path:
        """An autoencoder with this many channels."""
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

        AutoencoderKL(
            block_out_channels=(8, 8, 8, 8),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            norm_num_groups=4,
            latent_channels=channels,
        ).save_pretrained(self.folder / "autoencoder")
        return self.folder / "autoencoder"


def hub(work: Workplace, model: str) -> None:
    """Asks for a model of the hub, which cannot be reached."""
    work.offline()
    work.edit(pipeline__edit__model=model)


def load(work: Workplace, folder: Path, **options: Any) -> None:
    """Loads a run to go on from."""
    work.edit(load_dir=folder, **options)


def truth(work: Workplace, prompt: str) -> None:
    """Renders the truth of an instruction about a built-in world."""
    write_truth(work.copy(work.data), prompt)


def write_over(work: Workplace) -> None:
    """Writes a world where there is one."""
    work.world()
    work.world()


def missing_photograph(work: Workplace) -> None:
    """Reads a capture that names a photograph it does not have."""
    work.edit(data=work.without(work.data, "images/00003.png"))


def exchanged_photograph(work: Workplace) -> None:
    """Goes on with an edit, one of whose photographs was replaced."""
    data = work.copy(work.data)
    shutil.copy(data / "images/00002.png", data / "images/00003.png")
    work.edit(data=data, load_dir=work.edited)


def reordered_photographs(work: Workplace) -> None:
    """Goes on with an edit, two of whose photographs have each other's names."""
    data = work.copy(work.data)
    first, second = ((data / f"images/0000{number}.png").read_bytes() for number in (0, 3))
    (data / "images/00000.png").write_bytes(second)
    (data / "images/00003.png").write_bytes(first)
    work.edit(data=data, load_dir=work.edited)


MISTAKES: list[tuple[str, Callable[[Workplace], Any], str]] = [
    # What to change.
    ("no prompt", lambda at: at.edit(pipeline__edit__prompt=""), r"no prompt: .* --pipeline\.edit\.prompt"),
    ("blank prompt", lambda at: at.edit(pipeline__edit__prompt=" \t"), r"no prompt: say what to change"),
    (
        "endless prompt",
        lambda at: at.edit(pipeline__edit__prompt="word " * 20),
        r"prompt has \d+ tokens.* reads 32: shorten",
    ),
    # Which networks.
    ("mistyped folder", lambda at: hub(at, "/no/such/folder"), "neither an existing folder nor a hub id"),
    ("malformed hub id", lambda at: hub(at, "a hub id"), "neither an existing folder nor a hub id"),
    ("unreachable hub", lambda at: hub(at, "nobody/nothing"), "hub cannot be reached: pass a local folder"),
    (
        "empty model folder",
        lambda at: at.edit(pipeline__edit__model=str(at.folder)),
        r"no InstructPix2Pix pipeline: it has no unet/config\.json",
    ),
    (
        "no U-Net",
        lambda at: at.edit(model=at.without(at.model, "unet")),
        r"no InstructPix2Pix pipeline: it has no unet/config\.json",
    ),
    (
        "U-Net without weights",
        lambda at: at.edit(model=at.without(at.model, "unet/diffusion_pytorch_model.safetensors")),
        "The unet of .* could not be read",
    ),
    (
        "U-Net of Stable Diffusion",
        lambda at: at.edit(model=at.edited_file(at.model, "unet/config.json", in_channels=4)),
        "no InstructPix2Pix: its U-Net takes 4 channels, not 8",
    ),
    (
        "no scheduler",
        lambda at: at.edit(model=at.without(at.model, "scheduler")),
        r"it has no scheduler/scheduler_config\.json",
    ),
    (
        "no autoencoder",
        lambda at: at.edit(pipeline__autoencoder=str(at.folder)),
        "no autoencoder in .*expected a diffusers pipeline with a vae/ subfolder",
    ),
    (
        "damaged config",
        lambda at: at.edit(pipeline__autoencoder=str(at.file("config.json", b"{").parent)),
        r"The file config\.json of .* is damaged",
    ),
    (
        "autoencoder of another editor",
        lambda at: at.edit(pipeline__autoencoder=str(at.autoencoder(channels=8))),
        "latents have 8 channels and this InstructPix2Pix edits latents with 4",
    ),
    # Which run to go on from.
    ("load a file", lambda at: load(at, at.file("notes.txt")), "--load-dir .* is not a folder"),
    ("load a typo", lambda at: load(at, at.folder / "typo"), "--load-dir .*typo is not a folder"),
    ("load nothing", lambda at: load(at, at.empty()), "no folder of checkpoints, it holds nothing"),
    (
        "load a run",
        lambda at: load(at, at.edited.parent),
        r"no folder of checkpoints, it holds config\.yml.*: pass .*nerfstudio_models\.",
    ),
    (
        "stray file",
        lambda at: load(at, at.file("notes.txt").parent),
        r"no folder of checkpoints, it holds notes\.txt",
    ),
    (
        "no such checkpoint",
        lambda at: at.edit(load_checkpoint=at.folder / "step-1.ckpt"),
        r"There is no checkpoint .*step-1\.ckpt",
    ),
    (
        "run of nerfacto",
        lambda at: load(at, at.checkpoint(**{"_model.field.mlp_head.layers.0.weight": torch.zeros(3, 64)})),
        "step 9 holds no latent scene: train a latent-nerfacto run first",
    ),
    (
        "run with another autoencoder",
        lambda at: load(at, at.checkpoint(**{"_model.latent_mean": torch.zeros(16)})),
        "latents of 16 channels, but the autoencoder has 4",
    ),
    (
        "run with other options",
        lambda at: load(at, at.reconstructed, pipeline__model__max_res=20),
        "trained with other model options, as .* shows: pass the options",
    ),
    (
        "edit of other data",
        lambda at: load(at, at.edited, data=at.world(num_views=4, size=32)),
        "loaded run was trained on 5 photographs and .*world has 4: pass the --data of that run",
    ),
    (
        "edit of as many other photographs",
        lambda at: load(at, at.edited, data=at.world(num_views=5, size=32)),
        r"5 of 5 photographs of .*world are not those .*\(00000\.png, .*\): pass the --data of that run",
    ),
    (
        "scene of as many other photographs",
        lambda at: load(at, at.reconstructed, data=at.world(num_views=5, size=32)),
        "5 of 5 photographs of .*world are not those that the loaded run was trained on",
    ),
    ("one photograph exchanged", exchanged_photograph, r"1 of 5 photographs .* are not those .*\(00003\.png\)"),
    ("photographs in another order", reordered_photographs, "photographs of the loaded run in another order"),
    (
        "edit at another size",
        lambda at: load(at, at.edited, pipeline__datamanager__image_size=16),
        r"edited at the shape \(4, 4, 4\) and has the shape \(4, 2, 2\) now: load the run with the image size",
    ),
    # Which photographs.
    (
        "photographs without cameras",
        lambda at: at.edit(data=at.without(at.data, "transforms.json")),
        r"transforms\.json does not exist: make its folder from photographs with ns-process-data",
    ),
    ("missing photograph", missing_photograph, r"1 of 5 photographs .* do not exist \(00003\.png\)"),
    (
        "size below a cell",
        lambda at: at.edit(pipeline__datamanager__image_size=4),
        "images of 4 pixels: a latent cell has 8; choose image_size",
    ),
    # How often.
    ("no steps per edit", lambda at: EditScheduleConfig(steps_per_edit=0), "not 0 steps and 1 views"),
    ("no views per edit", lambda at: EditScheduleConfig(views_per_edit=0), "not 10 steps and 0 views"),
    (
        "nothing but reconstruction",
        lambda at: at.edit(pipeline__reconstruction_steps=8),
        "Nothing would be edited: .* for 8 steps and training ends after 8",
    ),
    # How.
    (
        "least noise above most",
        lambda at: at.edit(pipeline__edit__min_noise=0.9, pipeline__edit__max_noise=0.5),
        r"least noise of an edit, 0\.9, exceeds the most, 0\.5: swap",
    ),
    (
        "too much denoising",
        lambda at: at.edit(pipeline__edit__denoising_steps=50),
        "Cannot fit 50 denoising steps between timestep 20 and 1: take 1 to 20 steps",
    ),
    (
        "unknown clamp",
        lambda at: at.edit(pipeline__edit__delta_mask__clamp="median"),
        "Unknown clamp 'median' .*: one of max, quantile, iqr, mean3 fits",
    ),
    (
        "heads that do not divide",
        lambda at: at.edit(pipeline__model__adapter_heads=3),
        "width 16 into 3 heads: choose a divisor",
    ),
    # Which world.
    ("world over something", write_over, "is not empty: choose a new folder for the world"),
    ("one view", lambda at: at.world(num_views=1), "at least 2 training and 2 held-out views, not 1 and 2"),
    ("no held-out view", lambda at: at.world(num_held_out=0), "2 held-out views, not 2 and 0"),
    ("no pixels", lambda at: at.world(size=0), "at least 1 pixel along each side, not 0"),
    ("nine solids", lambda at: random_world(0, num_solids=9), "1 to 5 solids of different shapes, not 9"),
    ("unnamed solid", lambda at: truth(at, "make it red"), "Cannot tell what 'make it red' does"),
    ("empty instruction", lambda at: truth(at, ""), "Cannot tell what '' does to this world: name one"),
    (
        "two colours",
        lambda at: truth(at, f"make the {random_world(0).solids[0].shape} red and blue"),
        "name one or more of its solids .* and one new colour",
    ),
    ("no world", lambda at: write_truth(at.folder, "make the cone blue"), "holds no built-in world: there is"),
]


@pytest.fixture
def workplace(
    tmp_path, tiny_world_folder, tiny_instruct_pix2pix_folder, edited_run, reconstructed_run, monkeypatch
) -> Workplace:
    return Workplace(
        tmp_path,
        tiny_world_folder,
        tiny_instruct_pix2pix_folder,
        runs.checkpoints(edited_run.config),
        runs.checkpoints(reconstructed_run.config),
        monkeypatch,
    )


@pytest.mark.parametrize(("provoke", "expected"), [row[1:] for row in MISTAKES], ids=[row[0] for row in MISTAKES])
def test_a_mistake_is_answered_with_one_clear_line(workplace, provoke, expected):
    with pytest.raises(ValueError, match=expected) as answer:
        provoke(workplace)
    assert type(answer.value) is ValueError
    assert "\n" not in str(answer.value)


def test_no_two_mistakes_are_the_same():
    assert len({row[0] for row in MISTAKES}) == len(MISTAKES) >= 45


def test_what_the_mistakes_are_made_in_is_right_itself(workplace):
    trainer = workplace.edit(load_dir=workplace.edited)
    assert trainer.pipeline.update.progress.edits == 2
