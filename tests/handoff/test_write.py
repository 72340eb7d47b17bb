"""An edited run written as a dataset: settled, laid over, described."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from latenteditor.commands import write_dataset
from latenteditor.handoff.capture_views import read_capture
from latenteditor.handoff.coverage import choose_views
from latenteditor.handoff.settled_edits import SettledEdits
from latenteditor.handoff.write import WriteConfig, write_edited_dataset, write_pipeline
from latenteditor.nerf.loaded_run import load_run
from tests import runs


def config_of(trainer) -> Path:
    return trainer.config.get_base_dir() / "config.yml"


@pytest.fixture(scope="module")
def whole_view_run(tmp_path_factory, tiny_world_folder, tiny_instruct_pix2pix_folder):
    """A run that edits whole views: random networks find no region."""
    output = tmp_path_factory.mktemp("whole")
    options = {"pipeline.edit.mask": "none", "pipeline.edit.delta_mask.threshold": None}
    return runs.train(runs.edit(tiny_world_folder, tiny_instruct_pix2pix_folder, output, steps=8, **options))


@pytest.fixture(scope="module")
def written(whole_view_run, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("written") / "dataset"
    args = write_dataset.Args(settle_noise=0.5, load_config=config_of(whole_view_run), output_dir=folder)
    write_dataset.main(args)
    return folder


def test_every_photograph_is_edited_and_the_note_says_by_what(written, tiny_world_folder, whole_view_run):
    note = json.loads((written / "edit.json").read_text())
    assert note["photographs"] == note["edited"] == 7
    assert note["layers"] == [
        {"number": 1, "instruction": runs.PROMPT, "prompt": runs.PROMPT, "prompt_number": 1, "active": True}
    ]
    assert note["settings"]["settle_noise"] == 0.5 and note["settings"]["edit.denoising_steps"] == 2
    assert note["run"] == str(config_of(whole_view_run)) and note["step"] == 7
    for view in note["views"]:
        own = tiny_world_folder / view["file"]
        assert not view["own_file"] and Path(view["from"]).resolve() == own.resolve()
        assert Image.open(written / view["file"]).size == Image.open(own).size
        assert (written / view["file"]).read_bytes() != own.read_bytes()
    assert {tuple(view["splits"]) for view in note["views"]} == {("train",), ("val", "test")}


def test_what_is_written_is_written_again_alike(written, whole_view_run, tmp_path):
    write_edited_dataset(config_of(whole_view_run), tmp_path / "again", WriteConfig(settle_noise=0.5))
    for file in sorted((written / "images").iterdir()):
        assert (tmp_path / "again/images" / file.name).read_bytes() == file.read_bytes()


def test_an_existing_folder_is_refused_before_anything_is_loaded(written, whole_view_run):
    with pytest.raises(ValueError, match="exists already, and nothing is written over"):
        write_edited_dataset(config_of(whole_view_run), written, WriteConfig())
    with pytest.raises(ValueError, match="There is no run's config"):
        write_edited_dataset(written / "config.yml", written.parent / "other", WriteConfig())
    assert [folder.name for folder in written.parent.iterdir()] == ["dataset"]


def test_an_unedited_run_is_written_as_the_capture_byte_for_byte(reconstructed_run, tiny_world_folder, tmp_path):
    write_edited_dataset(config_of(reconstructed_run), tmp_path / "copy", WriteConfig())
    assert not (tmp_path / "copy/edit_masks").exists()
    for file in (tiny_world_folder / "images").iterdir():
        assert (tmp_path / "copy/images" / file.name).read_bytes() == file.read_bytes()


def test_colmaps_format_comes_without_a_transforms_file(reconstructed_run, tmp_path):
    write_edited_dataset(config_of(reconstructed_run), tmp_path / "copy", WriteConfig("colmap"))
    assert sorted(file.name for file in (tmp_path / "copy").iterdir()) == ["edit.json", "images", "sparse"]
    assert sorted(file.name for file in (tmp_path / "copy/sparse/0").iterdir())[:2] == ["cameras.bin", "images.bin"]


@pytest.fixture(scope="module")
def edits(edited_run, tmp_path_factory):
    """What an edited scene makes of its photographs, and those."""
    pipeline = load_run(config_of(edited_run)).pipeline
    return SettledEdits(pipeline, 0.9), read_capture(pipeline.datamanager)


def photograph_of(view) -> np.ndarray:
    return np.asarray(Image.open(view.photograph).convert("RGB"))


def test_a_view_is_changed_within_its_mask_alone(edits):
    settled, capture = edits
    layer = settled.layers[0]
    view = next(view for view in capture.views if view.train_index is not None)
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[0, :2, :2] = True
    layer.masks[view.train_index] = mask
    photograph = photograph_of(view)
    overlay = settled.edit(view, photograph)
    assert overlay.share[:8, :8].max() == 1 and (overlay.share[24:] == 0).all() and (overlay.share[:, 24:] == 0).all()
    assert (overlay.picture[overlay.share == 0] == photograph[overlay.share == 0]).all()


def test_a_view_without_a_region_is_left_alone(edits):
    settled, capture = edits
    view = next(view for view in capture.views if view.train_index == 2)
    settled.layers[0].masks[2] = torch.zeros(1, 4, 4, dtype=torch.bool)
    assert settled.edit(view, photograph_of(view)) is None


def test_noise_beyond_the_schedule_is_refused(edited_run):
    pipeline = load_run(config_of(edited_run)).pipeline
    with pytest.raises(ValueError):
        SettledEdits(pipeline, 1.5)


def test_a_run_of_colours_is_written_too(tiny_world_folder, tiny_instruct_pix2pix_folder, tmp_path):
    trainer = runs.train(runs.in2n(tiny_world_folder, tiny_instruct_pix2pix_folder, tmp_path / "runs", steps=6))
    written = write_edited_dataset(config_of(trainer), tmp_path / "dataset", WriteConfig())
    assert len(written) == 7 and all(view.share > 0 for view in written)


def test_an_interrupted_writing_leaves_nothing(whole_view_run, tmp_path, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(SettledEdits, "edit", fail)
    with pytest.raises(KeyboardInterrupt):
        write_edited_dataset(config_of(whole_view_run), tmp_path / "new/dataset", WriteConfig())
    assert not list((tmp_path / "new").iterdir())
    shutil.rmtree(tmp_path / "new")


def test_of_few_edited_views_the_others_are_masked(edited_run, tiny_world_folder, tmp_path):
    pipeline = load_run(config_of(edited_run)).pipeline
    for index in range(5):
        mask = torch.zeros(1, 4, 4, dtype=torch.bool)
        mask[0, :2, :2] = index < 4
        pipeline.session.layers.layers[0].masks[index] = mask
    written = write_pipeline(pipeline, tmp_path, WriteConfig(views=2), {})
    trained = [view for view in written if view.view.train_index is not None]
    edited = [view for view in trained if view.share > 0]
    assert len(edited) == 2 and len(trained) == 5
    assert all(view.mask is not None for view in written), "nerfstudio reads masks of all or of none"
    for view in trained:
        kept = np.asarray(Image.open(tmp_path / view.mask)) > 0
        masked = view not in edited and view.view.train_index < 4
        assert kept.all() != masked and kept[26:, 26:].all()
        if masked:
            assert not kept[:15, :15].any()
    data = json.loads((tmp_path / "transforms.json").read_text())
    assert all((tmp_path / frame["mask_path"]).is_file() for frame in data["frames"])


def test_views_are_chosen_for_what_they_see_and_from_all_around():
    angles = torch.arange(12) * torch.pi / 6
    positions = torch.stack([angles.cos(), angles.sin(), torch.zeros(12)], dim=1)
    shares = torch.full((12,), 0.1)
    shares[3], shares[4] = 0.2, 0.0
    chosen = choose_views(positions, shares, 4)
    assert chosen[0] == 3 and sorted(chosen) == [0, 3, 6, 9]
    assert sorted(choose_views(positions, shares, 20)) == [view for view in range(12) if view != 4]
    assert choose_views(positions, torch.zeros(12), 3) == []
