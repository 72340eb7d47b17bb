"""Runs that earlier versions saved are still read: by who looks at them, and by who goes on from them."""

import copy
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from nerfstudio.scripts.eval import ComputePSNR
from nerfstudio.utils.eval_utils import eval_setup

from latenteditor.nerf.checkpoints import checkpoint_path, checkpoint_paths, write_checkpoint
from latenteditor.nerf.one_line import OneLine
from tests import golden


@pytest.fixture(params=golden.METHODS)
def saved_run(request, tmp_path, monkeypatch, tiny_world_folder, tiny_instruct_pix2pix_folder) -> Path:
    """The config of a run where its data and its networks lie as they did, seen from the working directory."""
    monkeypatch.chdir(tmp_path)
    Path("world").symlink_to(tiny_world_folder, target_is_directory=True)
    Path("editor").symlink_to(tiny_instruct_pix2pix_folder, target_is_directory=True)
    run = Path("runs/world", request.param, "now")
    (run / "nerfstudio_models").mkdir(parents=True)
    shutil.copy(golden.FOLDER / request.param / "config.yml", run)
    checkpoint = golden.read(request.param)
    torch.save(checkpoint, run / "nerfstudio_models" / f"step-{checkpoint['step']:09d}.ckpt")
    return run / "config.yml"


def saved_state(config: Path) -> dict[str, Any]:
    (checkpoint,) = (config.parent / "nerfstudio_models").iterdir()
    return torch.load(checkpoint, map_location="cpu", weights_only=True)["pipeline"]


def require_loaded(pipeline: Any, state: dict[str, Any]) -> None:
    """Every tensor of the scene is the saved one, and nothing is there that was not."""
    loaded = {name: value for name, value in pipeline.state_dict().items() if name.startswith("_model.")}
    saved = {name: value for name, value in state.items() if name.startswith("_model.")}
    assert loaded.keys() == saved.keys()
    for name, value in saved.items():
        assert torch.equal(loaded[name], value), name


def test_every_method_has_a_saved_run():
    from tests.test_plugin import METHODS

    assert set(golden.METHODS) == set(METHODS)


def test_a_description_of_a_state_rebuilds_it():
    state = {"step": 3, 7: [torch.tensor([1.5, 2.0]), ("a", None)], "large": torch.zeros(3, 17)}
    found = golden.rebuild(golden.describe(state))
    assert found["step"] == 3 and torch.equal(found[7][0], state[7][0]) and found[7][1] == ("a", None)
    assert found["large"].shape == (3, 17) and found["large"].dtype == torch.float32


def test_a_saved_run_is_looked_at(saved_run):
    _, pipeline, checkpoint, step = eval_setup(saved_run, eval_num_rays_per_chunk=None, test_mode="test")
    state = saved_state(saved_run)
    require_loaded(pipeline, state)
    assert checkpoint.parent.parent == saved_run.parent and step > 0
    extra = state.get("_extra_state")
    if extra is not None:
        layers: Any = pipeline.layers
        assert [layer.instruction for layer in layers.active] == [
            layer["prompt"] for layer in extra["layers"]["layers"]
        ]


def test_a_saved_run_is_evaluated(saved_run, tmp_path):
    ComputePSNR(load_config=saved_run, output_path=tmp_path / "eval.json").main()
    assert '"psnr"' in (tmp_path / "eval.json").read_text()


def test_a_saved_run_goes_on(saved_run):
    config = yaml.load(saved_run.read_text(), Loader=yaml.Loader)
    config.load_dir, config.timestamp, config.max_num_iterations = saved_run.parent / "nerfstudio_models", "later", 1
    config.output_dir = config.output_dir.absolute()  # Logs are written by a thread that may outlive this test.
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    state = saved_state(saved_run)
    require_loaded(trainer.pipeline, state)
    trainer.train()
    assert trainer.step == golden.read(config.method_name)["step"] + 1
    if "_extra_state" in state:
        before = state["_extra_state"]["layers"]["layers"][0]["edited"]
        assert set(before) <= set(trainer.pipeline.layers.layers[0].edited)


@pytest.fixture
def looked_at(tmp_path, edited_run, monkeypatch) -> Path:
    """The config of a run of two checkpoints, of which nothing is damaged yet."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # Put back afterwards.
    config: Any = copy.deepcopy(edited_run.config)
    config.output_dir, config.load_dir, config.load_step = tmp_path, None, None
    folder = config.get_checkpoint_dir()
    folder.mkdir(parents=True)
    (newest,) = checkpoint_paths(edited_run.checkpoint_dir)
    state = torch.load(newest, weights_only=True)
    for step in (5, 7):
        write_checkpoint(state | {"step": step}, checkpoint_path(folder, step))
    config.write_config()
    return config.get_base_dir() / "config.yml"


def look_at(config: Path) -> int:
    """Loads a run as every command of the host does but ns-train; the step that was found."""
    return eval_setup(config, eval_num_rays_per_chunk=None, test_mode="inference")[3]


def test_who_looks_at_a_run_gets_the_newest_checkpoint_that_is_whole(looked_at, capsys):
    folder = looked_at.parent / "nerfstudio_models"
    assert look_at(looked_at) == 7
    (folder / ".DS_Store").touch()
    assert look_at(looked_at) == 7, "what else lies there is passed over"
    assert "damaged" not in capsys.readouterr().out
    content = bytearray((folder / "step-000000007.ckpt").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "step-000000007.ckpt").write_bytes(content)
    assert look_at(looked_at) == 5
    assert "step-000000007.ckpt is damaged" in capsys.readouterr().out.replace("\n", "")
    (folder / "step-000000005.ckpt").write_bytes(b"")
    with pytest.raises(
        ValueError, match=r"No checkpoint in .* can be read \(step-000000007\.ckpt: .*: load another run"
    ):
        look_at(looked_at)
    assert isinstance(sys.excepthook, OneLine), "and that is shown as one line"


def test_who_looks_at_a_run_finds_it_whatever_step_it_began_from(looked_at):
    config: Any = yaml.load(looked_at.read_text(), Loader=yaml.Loader)
    config.load_dir, config.load_step = looked_at.parent / "elsewhere", 3000
    assert config.load_step == 3000, "a run that trains takes what it is told"
    looked_at.write_text(yaml.dump(config))
    assert look_at(looked_at) == 7
