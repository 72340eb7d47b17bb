"""The finish: an ordinary run of any method, learnt from edited photographs, from where an unedited one stood."""

import copy
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from nerfstudio.data.dataparsers.colmap_dataparser import ColmapDataParserConfig
from nerfstudio.utils.eval_utils import eval_setup
from PIL import Image

from latenteditor import methods
from latenteditor.commands import finish as command
from latenteditor.handoff.finish import (
    Finish,
    default_method,
    finish_config,
    is_finished,
    newest_step,
    require_device,
    set_up_finish,
)
from latenteditor.handoff.region_rays import EVEN_FROM, REGION_SHARE, RegionRays, edit_mask_of
from latenteditor.options import set_options
from tests import runs

SMALL = {
    "experiment_name": "scene",
    "timestamp": "now",
    "vis": "tensorboard",
    "machine.device_type": "cpu",
    "max_num_iterations": 4,
    "pipeline.datamanager.train_num_rays_per_batch": 100,
    "pipeline.model.num_levels": 2,
    "pipeline.model.max_res": 24,
    "pipeline.model.near_plane": 0.2,
}


@pytest.fixture(scope="module")
def edited(edited_run) -> Path:
    return edited_run.config.get_base_dir() / "config.yml"


@pytest.fixture(scope="module")
def edited_dataset(edited, tiny_world_folder, tmp_path_factory) -> Path:
    """A folder with a dataset in which the first training view's upper left quarter was made white."""
    output = tmp_path_factory.mktemp("finished")
    folder = output / "dataset"
    (folder / "edit_masks").mkdir(parents=True)
    (folder / "images").mkdir()
    for file in (tiny_world_folder / "images").iterdir():
        (folder / "images" / file.name).write_bytes(file.read_bytes())
    description = json.loads((tiny_world_folder / "transforms.json").read_text())
    for frame in description["frames"]:
        del frame["depth_file_path"]
    (folder / "transforms.json").write_text(json.dumps(description))
    name = Path(description["train_filenames"][0]).name
    mask, pixels = np.zeros((32, 32), np.uint8), np.array(Image.open(folder / "images" / name))
    mask[:16, :16], pixels[:16, :16] = 255, 255
    Image.fromarray(mask).save(folder / "edit_masks" / name)
    Image.fromarray(pixels).save(folder / "images" / name)
    (folder / "edit.json").write_text(json.dumps({"run": str(edited)}))
    return folder


@pytest.fixture(scope="module")
def base(tiny_world_folder, tmp_path_factory) -> Path:
    """The config.yml of an unedited run of the method for a CPU."""
    config = copy.deepcopy(methods.dense_nerfacto.config)
    place = {"data": tiny_world_folder, "pipeline.datamanager.data": tiny_world_folder}
    set_options(config, {**SMALL, **place, "output_dir": tmp_path_factory.mktemp("base")})
    return runs.train(config).config.get_base_dir() / "config.yml"


def a_finish(dataset: Path, edited: Path, output: Path, base: Path | None = None, **others) -> Finish:
    return Finish(
        **{"method": "dense-nerfacto", "steps": 5, **others}, dataset=dataset, edited=edited, output=output, base=base
    )


def test_the_command_trains_from_the_base_and_leaves_an_ordinary_run(edited_dataset, edited, base):
    output = edited_dataset.parent
    command.main(
        command.Args(load_config=edited, output_dir=output, base=base, method="dense-nerfacto", steps=5, device="cpu")
    )
    config, pipeline, _, step = eval_setup(output / "dense-nerfacto/run/config.yml", test_mode="test")
    assert step == 8, "four steps of the base, then five"
    assert config.pipeline.model.max_res == 24 and config.method_name == "dense-nerfacto"
    assert Path(config.data) == edited_dataset
    text = (output / "dense-nerfacto/run/config.yml").read_text()
    assert "handoff" not in text, "nothing of the finish is needed to look at it"
    camera = pipeline.datamanager.eval_dataset.cameras[:1]
    assert pipeline.model.get_outputs_for_camera(camera)["rgb"].isfinite().all()
    finished = list((output / "dense-nerfacto/run/nerfstudio_models").iterdir())
    command.main(
        command.Args(load_config=edited, output_dir=output, base=base, method="dense-nerfacto", steps=5, device="cpu")
    )
    assert list((output / "dense-nerfacto/run/nerfstudio_models").iterdir()) == finished, "what is done is done"


def test_cameras_stand_where_the_edited_run_has_them(edited_dataset, edited, tmp_path):
    config = yaml.load(edited.read_text(), Loader=yaml.Loader)
    config.pipeline.datamanager.dataparser.orientation_method = "pca"
    config.pipeline.datamanager.dataparser.scale_factor = 0.5
    config.pipeline.model.near_plane = 0.77
    (tmp_path / "config.yml").write_text(yaml.dump(config))
    found = finish_config(a_finish(edited_dataset, tmp_path / "config.yml", tmp_path))
    parser = found.pipeline.datamanager.dataparser
    assert (parser.orientation_method, parser.scale_factor, parser.downscale_factor) == ("pca", 0.5, 1)
    assert found.pipeline.model.near_plane == 0.77 and found.load_dir is None
    config.pipeline.datamanager.dataparser = ColmapDataParserConfig(scene_scale=3.0)
    (tmp_path / "config.yml").write_text(yaml.dump(config))
    parser = finish_config(a_finish(edited_dataset, tmp_path / "config.yml", tmp_path)).pipeline.datamanager.dataparser
    assert (parser.orientation_method, parser.center_method, parser.auto_scale_poses) == ("none", "none", False)
    assert parser.scene_scale == 3.0


@pytest.mark.parametrize("method", ["nerfacto", "splatfacto", "instant-ngp", "dense-nerfacto"])
def test_any_method_gets_a_config(edited_dataset, edited, tmp_path, method):
    config = finish_config(a_finish(edited_dataset, edited, tmp_path, method=method, steps=None))
    assert config.method_name == method and config.pipeline.datamanager.dataparser.data == edited_dataset
    assert config.max_num_iterations > 1000 and config.get_base_dir() == tmp_path / method / "run"


def test_splats_on_a_cpu_are_refused_by_a_line_that_names_dataset_and_command(edited_dataset, edited, tmp_path):
    finish = a_finish(edited_dataset, edited, tmp_path, method="splatfacto")
    with pytest.raises(ValueError) as refused:
        require_device(finish)
    assert str(edited_dataset) in str(refused.value)
    assert f"ns-train splatfacto --data {edited_dataset.name}" in str(refused.value)
    assert "\n" not in str(refused.value)
    require_device(a_finish(edited_dataset, edited, tmp_path, method="splatfacto", device="cuda"))
    assert (default_method("cpu"), default_method("cuda:1")) == ("dense-nerfacto", "splatfacto")


def test_what_does_not_fit_is_refused(edited_dataset, edited, base, tmp_path):
    with pytest.raises(ValueError, match="There is no method 'splats'"):
        finish_config(a_finish(edited_dataset, edited, tmp_path, method="splats"))
    with pytest.raises(ValueError, match="is one of dense-nerfacto, and the finish is by nerfacto"):
        finish_config(a_finish(edited_dataset, edited, tmp_path, base, method="nerfacto"))
    with pytest.raises(ValueError, match="There is no run's config"):
        finish_config(a_finish(edited_dataset, edited, tmp_path, tmp_path / "config.yml"))
    (tmp_path / "config.yml").write_text("- no\n- settings")
    with pytest.raises(ValueError, match="holds no settings of a run"):
        finish_config(a_finish(edited_dataset, tmp_path / "config.yml", tmp_path))
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/config.yml").write_text(base.read_text())
    with pytest.raises(ValueError, match="has no checkpoint"):
        finish_config(a_finish(edited_dataset, edited, tmp_path, tmp_path / "empty/config.yml"))
    with pytest.raises(ValueError, match="was written from"):
        command.main(
            command.Args(load_config=base, output_dir=edited_dataset.parent, method="dense-nerfacto", device="cpu")
        )


def test_rays_come_from_the_region_at_first_and_from_everywhere_at_the_end(edited_dataset, edited, base, tmp_path):
    trainer = set_up_finish(a_finish(edited_dataset, edited, tmp_path / "finish", base, steps=10))
    data = trainer.pipeline.datamanager
    rays, batch = data.next_train(4)
    indices, total = batch["indices"], len(batch["indices"])
    assert len(rays) == len(batch["image"]) == total == 100
    of_region = indices[round((1 - REGION_SHARE) * total) :]
    assert (of_region[:, 0] == 0).all() and (of_region[:, 1:] < 16).all()
    assert (batch["image"][-len(of_region) :] == 1).all(), "white, as it was edited"
    assert (rays.camera_indices[:, 0].cpu() == indices[:, 0]).all()
    for row, (view, y, x) in enumerate(indices.tolist()):
        expected = data.views.originals[view][:, y, x]
        torch.testing.assert_close(batch["image"][row], expected, atol=0.01, rtol=0)
    _, last = data.next_train(4 + int(10 * EVEN_FROM))
    assert not (last["indices"][-len(of_region) :, 0] == 0).all()


def serving(photographs: list[torch.Tensor], files: list[Path], batch: dict) -> SimpleNamespace:
    """A data manager that serves one batch."""
    from nerfstudio.cameras.cameras import Cameras

    cameras = Cameras(torch.eye(4)[None, :3].repeat(len(files), 1, 1), 10.0, 10.0, 8.0, 8.0, width=16, height=16)

    class Listed(list):
        image_filenames = files

    listed = Listed({"image": photograph} for photograph in photographs)
    listed.cameras = cameras
    rays = cameras.generate_rays(0)
    return SimpleNamespace(train_dataset=listed, device="cpu", next_train=lambda step: (rays, dict(batch)))


@pytest.fixture
def two_photographs(tmp_path) -> list[Path]:
    """Two photographs, of which the second was edited in a corner."""
    files = [tmp_path / "images" / name for name in ("a.png", "b.jpg")]
    for folder in ("images", "edit_masks"):
        (tmp_path / folder).mkdir()
    mask = np.zeros((16, 16), np.uint8)
    mask[:4, :4] = 7
    Image.fromarray(mask).save(tmp_path / "edit_masks/b.png")
    return files


def test_masks_of_the_batch_stay_beside_their_rays(two_photographs, tmp_path):
    images = [torch.zeros(16, 16, 3), torch.ones(16, 16, 3)]
    batch = {
        "indices": torch.zeros(10, 3, dtype=torch.long),
        "image": torch.zeros(10, 3),
        "mask": torch.zeros(10, 1, dtype=torch.bool),
    }
    rays = RegionRays(serving(images, two_photographs, batch), tmp_path, 0, 10)
    assert rays.pays and rays.share == pytest.approx(16 / 512)
    _, found = rays.next_train(0)
    assert found["mask"][:6].sum() == 0 and found["mask"][6:].all()
    assert (found["image"][6:] == 1).all() and (found["indices"][6:, 0] == 1).all()


@pytest.mark.parametrize("extra", [{"depth_image": torch.zeros(10)}, {"patch_size": 2}])
def test_batches_that_are_more_than_single_colours_are_left_as_they_are(two_photographs, tmp_path, extra):
    batch = {"indices": torch.zeros(10, 3, dtype=torch.long), "image": torch.zeros(10, 3), **extra}
    rays = RegionRays(serving([torch.zeros(16, 16, 3)] * 2, two_photographs, batch), tmp_path, 0, 10)
    assert (rays.next_train(0)[1]["indices"] == 0).all()


def test_a_region_of_nearly_everything_or_nothing_gets_no_rays_of_its_own(two_photographs, tmp_path):
    images = [torch.zeros(16, 16, 3)] * 2
    (tmp_path / "edit_masks/b.png").unlink()
    assert not RegionRays(serving(images, two_photographs, {}), tmp_path, 0, 10).pays
    for name in ("a", "b"):
        Image.fromarray(np.full((16, 16), 255, np.uint8)).save(tmp_path / f"edit_masks/{name}.png")
    assert not RegionRays(serving(images, two_photographs, {}), tmp_path, 0, 10).pays
    assert edit_mask_of(tmp_path / "elsewhere/a.png", tmp_path) is None


def test_an_interrupted_finish_goes_on_and_ends_where_it_would_have(edited_dataset, edited, base, tmp_path):
    finish = a_finish(edited_dataset, edited, tmp_path / "interrupted", base, steps=6)
    trainer = set_up_finish(finish)
    trainer.callbacks.append(_Stop(trainer, at_step=6))
    trainer.train()
    assert not is_finished(finish)
    set_up_finish(finish).train()
    assert is_finished(finish) and newest_step(finish.run) == 4 + 6 - 1


class _Stop:
    """Ends a training as the host's viewer may, after a step."""

    def __init__(self, trainer, at_step: int) -> None:
        self.trainer, self.at_step = trainer, at_step

    def run_callback_at_location(self, step: int, location) -> None:
        self.trainer.stop_training = self.trainer.stop_training or step >= self.at_step
