"""Commands on built-in worlds: what is done is not done again, and what fails says why."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from latenteditor.runs import (
    Run,
    find_ffmpeg,
    keep_to_prompt,
    render_command,
    run_command,
    run_measured,
    run_stages,
    words_to_finish,
)

FOLDER = Path("/worlds/7")
DEVICE = "cpu"


def test_runs_of_one_method_lie_in_folders_of_their_own():
    one, other = Run(FOLDER, "latenteditor", "field"), Run(FOLDER, "latenteditor", "per-view")
    assert one.path != other.path
    for run in (one, other):
        assert run.config.parent == run.checkpoints.parent == run.path


@pytest.fixture
def begun(tmp_path) -> Run:
    """A run with checkpoints of the steps 9 and 19."""
    run = Run(tmp_path, "latenteditor", "edit", "bear", outputs=".")
    run.checkpoints.mkdir(parents=True)
    for step in (19, 9):
        (run.checkpoints / f"step-{step:09d}.ckpt").touch()
    return run


def test_a_run_is_found_with_its_newest_checkpoint_and_is_finished_when_it_can_be_loaded(begun, tmp_path):
    assert begun.path == tmp_path / "bear/latenteditor/edit"
    assert begun.newest_step == 19 and Run(tmp_path, "latenteditor", "other").newest_step is None
    assert not begun.is_finished(19)
    begun.config.touch()
    assert begun.is_finished(19) and not begun.is_finished(20)


def test_a_run_goes_on_from_its_newest_checkpoint_else_from_its_base(begun, tmp_path):
    new = Run(tmp_path, "latenteditor", "new")
    assert words_to_finish(new, 0, 29) == ["--max-num-iterations", "30"]
    assert words_to_finish(new, 20, 29, begun) == ["--max-num-iterations", "10", "--load-dir", str(begun.checkpoints)]
    assert words_to_finish(begun, 0, 29, new) == ["--max-num-iterations", "10", "--load-dir", str(begun.checkpoints)]


def test_files_about_a_run_are_named_by_its_method_and_by_its_name_where_it_has_one():
    assert Run(FOLDER, "latent-nerfacto").label == "latent-nerfacto"
    assert Run(FOLDER, "latenteditor", "field").label == "latenteditor-field"


def test_renders_load_the_run():
    run = Run(FOLDER, "latenteditor")
    command = render_command(run, "dataset", "--split", "test")
    assert command == ["ns-render", "dataset", "--load-config", str(run.config), "--split", "test"]


def recorder(done: list[str], *names: str):
    return {name: lambda name=name: done.append(name) for name in names}


def test_stages_run_in_order_up_to_the_last(tmp_path):
    done, said = [], []
    seconds = run_stages(recorder(done, "first", "second", "third"), tmp_path / "log.json", "second", said.append)
    assert done == list(seconds) == ["first", "second"]
    assert [line.split(":")[0] for line in said] == done


def test_an_interrupted_run_goes_on_with_the_stage_that_failed(tmp_path):
    done: list[str] = []
    stages = recorder(done, "first", "second", "third")

    def fail() -> None:
        raise KeyboardInterrupt

    log = tmp_path / "log.json"
    with pytest.raises(KeyboardInterrupt):
        run_stages({**stages, "second": fail}, log, "third", str)
    assert list(json.loads(log.read_text())) == ["first"]
    seconds = run_stages(stages, log, "third", str)
    assert done == ["first", "second", "third"] == list(seconds)
    assert run_stages(stages, log, "third", str) == seconds
    assert done == ["first", "second", "third"]


def test_an_unknown_last_stage_is_refused_before_anything_runs(tmp_path):
    done: list[str] = []
    with pytest.raises(ValueError, match=r"no stage 'thrid'.*first, third"):
        run_stages(recorder(done, "first", "third"), tmp_path / "log.json", "thrid", str)
    assert done == []


def test_a_folder_keeps_to_the_prompt_it_was_begun_with(tmp_path):
    keep_to_prompt(tmp_path, "make the cone blue")
    keep_to_prompt(tmp_path, "make the cone blue")
    with pytest.raises(ValueError, match="begun with 'make the cone blue', not 'make the cone red'"):
        keep_to_prompt(tmp_path, "make the cone red")


def test_a_command_leaves_its_output_in_the_log(tmp_path):
    run_command(
        [Path(sys.executable).name, "-c", "import sys; print('out'); print('err', file=sys.stderr)"], tmp_path / "log"
    )
    assert sorted((tmp_path / "log").read_text().split()) == ["err", "out"]


def test_a_failed_command_shows_the_end_of_its_log(tmp_path):
    script = "print(*range(9), sep='\\n'); raise SystemExit(3)"
    with pytest.raises(ValueError, match=r"(?s)-c failed; the end of .*log:\n4\n5\n6\n7\n8$"):
        run_command([Path(sys.executable).name, "-c", script], tmp_path / "log")


def test_a_command_that_is_not_installed_is_named(tmp_path):
    with pytest.raises(ValueError, match="There is no .*ns-nothing"):
        run_command(["ns-nothing", "at-all"], tmp_path / "log")


def test_a_command_finds_ffmpeg_where_none_is_installed_and_nothing_of_it_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("ffmpeg") is None
    script = "import shutil, subprocess; print(shutil.which('ffmpeg')); subprocess.run(['ffmpeg', '-version'])"
    run_command([Path(sys.executable).name, "-c", script], tmp_path / "log")
    said = (tmp_path / "log").read_text()
    assert "ffmpeg version" in said
    found = next(Path(line) for line in said.splitlines() if line.endswith("/ffmpeg"))
    assert not found.parent.exists()
    assert os.environ["PATH"] == str(tmp_path)


def test_an_installed_ffmpeg_is_the_one_that_is_found(tmp_path, monkeypatch):
    own = tmp_path / "ffmpeg"
    own.write_text("")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_ffmpeg() == str(own)
    run_command([Path(sys.executable).name, "-c", "import shutil; print(shutil.which('ffmpeg'))"], tmp_path / "log")
    assert (tmp_path / "log").read_text().strip() == str(own)


def test_where_there_is_no_ffmpeg_at_all_commands_run_without(tmp_path, monkeypatch):
    def none() -> str:
        raise RuntimeError("no ffmpeg for this machine")

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("imageio_ffmpeg.get_ffmpeg_exe", none)
    assert find_ffmpeg() is None
    run_command([Path(sys.executable).name, "-c", "print('done')"], tmp_path / "log")
    assert (tmp_path / "log").read_text() == "done\n"


def test_the_memory_of_a_command_is_its_own_and_not_that_of_who_runs_it(tmp_path):
    held = bytearray(600_000_000)  # Zeros that are never read take no memory, so they are written.
    held[::4096] = b"1" * len(held[::4096])
    script = "held = b'1' * 200_000_000; print(len(held))"
    peak = run_measured([Path(sys.executable).name, "-c", script], tmp_path / "log.txt")
    assert 200_000_000 < peak < 400_000_000
    assert (tmp_path / "log.txt").read_text() == "200000000\n"
    assert [path.name for path in tmp_path.iterdir()] == ["log.txt"]
    del held


def test_a_measured_command_fails_as_any_other(tmp_path):
    with pytest.raises(ValueError, match=r"(?s)-c failed; the end of .*log.txt:\nwrong$"):
        run_measured([Path(sys.executable).name, "-c", "print('wrong'); raise SystemExit(3)"], tmp_path / "log.txt")
