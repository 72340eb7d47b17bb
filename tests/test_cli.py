"""The console command: its overview, its answers to what it does not know, and the names that scripts had."""

import sys

import pytest

from latenteditor import cli


@pytest.fixture
def ran(monkeypatch) -> list[tuple[str, list[str]]]:
    """What would have been run: subcommands and their words."""
    calls: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(cli, "run", lambda name, words: calls.append((name, list(words))))
    return calls


def test_a_script_that_became_a_subcommand_runs_it_and_says_its_name(ran, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["scripts/train_editor.py", "--output", "somewhere"])
    cli.run_renamed("scripts/train_editor.py", "editor train")
    assert ran == [("editor train", ["--output", "somewhere"])]
    shown = capsys.readouterr()
    assert shown.err == (
        "scripts/train_editor.py is now `latenteditor editor train`; this name goes with the next release.\n"
    )
    assert shown.out == ""
