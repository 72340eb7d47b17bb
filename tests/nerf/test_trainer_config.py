"""What ns-train is told is refused before it is printed or saved, and mistakes are shown as one line."""

import copy
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from nerfstudio.configs.base_config import ViewerConfig
from nerfstudio.scripts import train

from latenteditor import methods
from latenteditor.nerf import trainer_config
from latenteditor.nerf.one_line import OneLine, can_be_mended
from latenteditor.options import set_options

KEY = "gsk_AbCdEf0123456789"
"""A key that could be the name of a variable."""


@pytest.fixture
def config(tmp_path, monkeypatch) -> Any:
    """A config as ns-train has read it."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # Put back afterwards.
    config = copy.deepcopy(methods.latenteditor.config)
    options = {
        "output_dir": tmp_path / "outputs",
        "experiment_name": "world",
        "machine.device_type": "cpu",
        "pipeline.autoencoder": "miniature",
        "vis": "tensorboard",
        "data": tmp_path / "no such folder",
        "pipeline.edit.prompt": "make it red",
    }
    set_options(config, options)
    return config


@pytest.mark.parametrize(
    "options",
    [
        {"pipeline.split.endpoint_key_variable": KEY},
        {"pipeline.split.endpoint_key_variable": "sk-" + KEY},
        {"pipeline.split.splitter": "endpoint", "pipeline.split.endpoint": f"http://me:{KEY}@localhost/v1"},
        {"pipeline.split.splitter": "endpoint", "pipeline.split.endpoint": f"http://localhost/v1?api_key={KEY}"},
        {"pipeline.split.splitter": "endpoint", "pipeline.split.endpoint": f"http://localhost/v1#{KEY}"},
    ],
    ids=["as a variable", "as another variable", "as a password", "in a query", "in a fragment"],
)
def test_a_key_is_neither_written_nor_shown_nor_repeated(config, options, tmp_path, capsys):
    set_options(config, options)
    with pytest.raises(ValueError, match="not repeated here") as answer:
        train.main(config)
    shown = capsys.readouterr()
    assert KEY not in str(answer.value) + shown.out + shown.err
    assert not (tmp_path / "outputs").exists()
    with pytest.raises(ValueError, match="not repeated here"):
        config.save_config()
    assert not (tmp_path / "outputs").exists()


def test_the_name_of_a_variable_that_is_set_is_saved_and_its_key_is_not(config, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SPLITTER_KEY", KEY)
    config.pipeline.split.endpoint_key_variable = "SPLITTER_KEY"
    with pytest.raises(ValueError, match="There is no capture"):
        train.main(config)
    (saved,) = tmp_path.glob("outputs/world/latenteditor/*/config.yml")
    assert "SPLITTER_KEY" in saved.read_text()
    assert KEY not in saved.read_text() + capsys.readouterr().out


def test_an_option_out_of_range_leaves_no_folder_behind(config, tmp_path):
    config.pipeline.edit.guidance.text = -1.0
    with pytest.raises(ValueError, match="guidance.text is -1"):
        train.main(config)
    assert not (tmp_path / "outputs").exists()


def test_a_place_that_cannot_be_written_is_named(config, tmp_path):
    (tmp_path / "outputs").write_text("a file")
    with pytest.raises(ValueError, match=r"cannot be written to .*outputs.* \(Not a directory\): .*--output-dir"):
        train.main(config)


def run(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
        env=os.environ | environment,
    )


def test_ns_train_ends_with_one_line_where_the_mistake_is_the_users(tmp_path):
    words = ["ns-train", "latent-nerfacto", "--data", "nowhere", "--output-dir", str(tmp_path), "--vis", "tensorboard"]
    script = f"""
import sys
sys.argv = {[*words, "--machine.device-type", "cpu", "--pipeline.autoencoder", "miniature"]!r}
from nerfstudio.scripts.train import entrypoint
entrypoint()
"""
    finished = run(script, LATENTEDITOR_DEBUG="")
    assert finished.returncode == 1
    assert finished.stderr.strip().splitlines()[-1].startswith("Error: There is no capture nowhere: pass the folder")
    assert "Traceback" not in finished.stderr + finished.stdout


def test_a_debug_switch_brings_the_traceback():
    script = """
from pathlib import Path
from latenteditor.nerf.one_line import show_mistakes_as_one_line
from latenteditor.language.rules import require_words
show_mistakes_as_one_line()
show_mistakes_as_one_line()
require_words("")
"""
    alone, with_trace = run(script, LATENTEDITOR_DEBUG="0"), run(script, LATENTEDITOR_DEBUG="1")
    assert (alone.returncode, with_trace.returncode) == (1, 1)
    assert alone.stderr == 'Error: There is nothing to edit by: give a prompt, for example "make the sphere red".\n'
    assert "Traceback" in with_trace.stderr and "ValueError: There is nothing to edit by" in with_trace.stderr


def test_what_a_user_cannot_mend_keeps_its_traceback():
    shown: list[BaseException] = []
    show = OneLine(lambda kind, error, trace: shown.append(error))
    for error in (ValueError("of somebody else"), RuntimeError("out of memory")):
        try:
            raise error
        except Exception as caught:
            assert not can_be_mended(caught, caught.__traceback__)
            show(type(caught), caught, caught.__traceback__)
    assert [str(error) for error in shown] == ["of somebody else", "out of memory"]


def as_ns_viewer(config: Any, host: str) -> ViewerConfig:
    """What ns-viewer does with a run that it has read: it replaces the run's settings of the viewer."""
    loaded: Any = yaml.load(yaml.dump(config), Loader=yaml.Loader)
    loaded.viewer = ViewerConfig(websocket_host=host)
    loaded.viewer.num_rays_per_chunk = 5
    return loaded.viewer


def test_ns_viewer_serves_a_run_where_it_was_trained_for_unless_it_is_told(config, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["ns-viewer", "--load-config", "config.yml"])
    assert as_ns_viewer(config, "0.0.0.0").websocket_host == "127.0.0.1"
    assert "Everybody" not in capsys.readouterr().out
    for words in (["--viewer.websocket-host", "0.0.0.0"], ["--viewer.websocket_host=0.0.0.0"]):
        monkeypatch.setattr(sys, "argv", ["ns-viewer", *words])
        assert as_ns_viewer(config, "0.0.0.0").websocket_host == "0.0.0.0"
        assert "Everybody who reaches this machine at 0.0.0.0" in " ".join(capsys.readouterr().out.split())


def test_ns_viewer_itself_opens_no_door(config, monkeypatch, tmp_path):
    from nerfstudio.scripts.viewer import run_viewer

    served: list[str] = []
    monkeypatch.setattr(sys, "argv", ["ns-viewer", "--load-config", "config.yml"])
    monkeypatch.setattr(run_viewer, "eval_setup", lambda *_, **__: (config, None, None, 0))
    monkeypatch.setattr(run_viewer, "_start_viewer", lambda shown, *_: served.append(shown.viewer.websocket_host))
    run_viewer.RunViewer(load_config=tmp_path).main()
    assert served == ["127.0.0.1"]
    assert "127.0.0.1" in trainer_config.LOOPBACK
