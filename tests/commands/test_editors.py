"""The list of editors."""

from latenteditor.cli import main
from latenteditor.networks import editors


def test_every_family_is_listed_with_what_it_needs_and_what_is_at_hand(capsys, monkeypatch):
    monkeypatch.setattr("latenteditor.commands.editors.at_hand", lambda model: model == "Qwen/Qwen-Image-Edit")
    main(["editors"])
    said = capsys.readouterr().out
    for family in editors.FAMILIES:
        assert f"{family.title}: {family.branches} predictions a step" in said
        for one in family.published:
            (line,) = [line for line in said.splitlines() if one.model in line.split()]
            assert f"{one.gigabytes} GB" in line and one.licence in line
            assert ("(at hand)" in line) == (one.model == "Qwen/Qwen-Image-Edit")


def test_what_is_not_in_the_hubs_cache_is_not_at_hand(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert not editors.at_hand("nobody/nothing-of-the-kind")
