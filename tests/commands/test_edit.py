"""One command from photographs to a sharp edited scene, with real commands on a small world."""

import json
from pathlib import Path

import pytest

from latenteditor.cli import main
from latenteditor.editing.editor import EditConfig
from latenteditor.handoff import whole_edit
from latenteditor.handoff.journey import stages
from latenteditor.handoff.whole_edit import WholeEdit, WholeEditConfig, require_whole
from latenteditor.nerf.loaded_run import load_run
from tests.forked import fork_commands


@pytest.fixture(scope="module")
def words(tiny_world_folder, tiny_instruct_pix2pix_folder, tmp_path_factory) -> list[str]:
    output = tmp_path_factory.mktemp("whole") / "edit"
    return [
        "edit", "--data", str(tiny_world_folder), "--prompt", "make the cone blue", "--output-dir", str(output),
        "--edit.model", str(tiny_instruct_pix2pix_folder), "--edit.mask", "none", "--edit.denoising-steps", "2",
        "--method", "dense-nerfacto", "--device", "cpu", "--image-size", "32", "--reconstruction-steps", "3",
        "--base-steps", "3", "--edit-steps", "3", "--steps-per-edit", "2", "--finish-steps", "3",
        "--num-pictures", "1", "--video-frames", "4",
    ]  # fmt: skip


def test_it_goes_from_photographs_to_a_report_and_does_nothing_twice(words, capsys, monkeypatch):
    fork_commands(monkeypatch)
    output = Path(words[6])
    main(words)
    said = capsys.readouterr().out
    assert f"Report: {output}/report.html" in said
    finished = output / "finished/dense-nerfacto/run/config.yml"
    assert f"ns-viewer --load-config {finished}" in said
    assert load_run(finished).step == 5
    page = (output / "report.html").read_text()
    assert "make the cone blue" in page and "write-dataset" in page and "video/mp4" in page
    seconds = json.loads((output / "seconds.json").read_text())
    expected = ["reconstruction", "colours", "edit", "photographs", "finish", "pictures", "video", "report"]
    assert list(seconds) == expected
    memory = json.loads((output / "memory.json").read_text())
    assert set(memory) == {*expected} - {"pictures", "report"} and min(memory.values()) > 100 << 20
    assert (output / "edited.mp4").stat().st_size > 1000
    main(words)
    again = capsys.readouterr().out
    assert "reconstruction:" not in again and "Report:" in again
    with pytest.raises(SystemExit, match="was begun with 'make the cone blue'"):
        main([*words[:4], "make it red", *words[5:]])


def test_the_prompt_is_said_once(words):
    with pytest.raises(SystemExit, match="by --prompt alone"):
        main([*words, "--edit.prompt", "make it red"])


def whole(folder: Path, data: Path, **others) -> WholeEdit:
    config = WholeEditConfig(EditConfig(model="miniature"))
    content = {"prompt": "make it red", "method": "dense-nerfacto", "config": config, "device": "cpu"}
    return WholeEdit(data=data, folder=folder, **{**content, **others})


def test_what_would_fail_later_is_refused_at_once(tmp_path, tiny_world_folder, reconstructed_run):
    own = reconstructed_run.config.get_base_dir() / "config.yml"
    require_whole(whole(tmp_path, tiny_world_folder, reconstruction=own))
    for others, complaint in (
        ({"data": tmp_path / "nowhere"}, "There is no capture"),
        ({"prompt": " "}, "There is no prompt"),
        ({"method": "splats"}, "There is no method 'splats'"),
        ({"config": WholeEditConfig(EditConfig(model="/nowhere"))}, "neither an existing folder nor a hub id"),
        ({"method": "splatfacto"}, "splatfacto needs CUDA, and the device is cpu: finish with --method dense-nerfacto"),
        ({"base": own}, "is one of latent-nerfacto, and one of dense-nerfacto is needed"),
        ({"reconstruction": tmp_path / "config.yml"}, "There is no run's config"),
    ):
        with pytest.raises(ValueError, match=complaint):
            require_whole(whole(tmp_path, **{"data": tiny_world_folder, **others}))


def test_runs_that_are_there_are_used_and_splats_are_learnt_from_the_edited_photographs_alone(tmp_path):
    everything = list(stages(whole(tmp_path, tmp_path), print))
    assert everything[:3] == ["reconstruction", "colours", "edit"]
    given = whole(tmp_path, tmp_path, base=tmp_path / "a.yml", reconstruction=tmp_path / "b.yml")
    assert list(stages(given, print)) == everything[2:]
    splats = whole(tmp_path, tmp_path, method="splatfacto", device="cuda")
    assert "colours" not in stages(splats, print) and "--base" not in whole_edit.finish_command(splats)


def test_every_setting_of_the_edit_reaches_ns_train(tmp_path):
    config = WholeEditConfig(near_plane=0.3, dataparser="colmap", image_size=None, steps_per_edit=7)
    config.edit.guidance.text = 3.5
    command = whole_edit.edit_command(whole(tmp_path, tmp_path, config=config))
    for pair in (
        ["--pipeline.edit.prompt", "make it red"],
        ["--pipeline.edit.guidance.text", "3.5"],
        ["--pipeline.model.near-plane", "0.3"],
        ["--pipeline.datamanager.image-size", "None"],
        ["--pipeline.schedule.steps-per-edit", "7"],
    ):
        assert command[command.index(pair[0]) + 1] == pair[1]
    assert command[-1] == "colmap"
