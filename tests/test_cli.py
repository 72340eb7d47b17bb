"""The console command: light until it is asked for something, and plain about what it cannot do."""

import errno
import os
import subprocess
import sys
import time

import pytest

from latenteditor import __version__, cli

HEAVY = ("torch", "numpy", "tyro", "nerfstudio", "diffusers", "transformers")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """A process of its own that says at its end which heavy libraries it has loaded."""
    script = f"""
import sys
from latenteditor import cli
try:
    cli.main({list(words)!r})
finally:
    print("loaded:", *(name for name in {HEAVY!r} if name in sys.modules))
"""
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",)])
def test_help_lists_every_subcommand_and_loads_nothing_heavy(words):
    begin = time.process_time()
    finished = run(*words)
    assert finished.returncode == 0
    assert all(name in finished.stdout for name in cli.COMMANDS)
    assert finished.stdout.splitlines()[-1] == "loaded:"
    assert time.process_time() - begin < 1


def test_the_version_is_that_of_the_package():
    assert run("--version").stdout.splitlines()[0] == f"latenteditor {__version__}"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["previw"], "There is no command 'previw': did you mean 'preview'?"),
        (["editr"], "did you mean 'edit'?"),
        (["editor", "evaluat"], "did you mean 'editor evaluate'?"),
        (["xyz"], "one of edit, preview, evaluate"),
    ],
)
def test_an_unknown_word_is_answered_with_what_is_like_it(words, said, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_named_in_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    words = ["world", "--output", str(tmp_path / "file" / "world")]
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert str(ended.value.code).startswith(f"Error: {tmp_path}/file") and "(Not a directory)" in str(ended.value.code)
    monkeypatch.setenv("LATENTEDITOR_DEBUG", "1")
    with pytest.raises(NotADirectoryError):
        cli.main(words)


def test_a_full_disk_is_named_in_one_line(tmp_path, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "world.json"))

    monkeypatch.setattr("latenteditor.commands.world.main", full)
    with pytest.raises(
        SystemExit, match=r"world\.json cannot be read or written \(No space left on device\): make room"
    ):
        cli.main(["world", "--output", str(tmp_path)])


def test_what_a_user_can_mend_ends_with_status_1_and_one_line(monkeypatch):
    class Module:
        def main(self, args: object) -> None:
            raise ValueError("There is no folder x: pass one.")

    monkeypatch.setattr(cli, "parse", lambda name, words: (Module(), None))
    with pytest.raises(SystemExit) as ended:
        cli.main(["world"])
    assert ended.value.code == "Error: There is no folder x: pass one."


def test_an_interrupt_ends_with_the_shells_status_for_one(monkeypatch, capsys):
    def interrupt(name: str, words: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "parse", interrupt)
    with pytest.raises(SystemExit) as ended:
        cli.main(["world"])
    assert ended.value.code == 130
    assert "go on" in capsys.readouterr().err


def test_a_script_that_became_a_subcommand_runs_it_and_says_its_name(monkeypatch, capsys):
    ran: list[object] = []

    class Module:
        def main(self, args: object) -> None:
            ran.append(args)

    monkeypatch.setattr(cli, "parse", lambda name, words: (Module(), (name, list(words))))
    monkeypatch.setattr(sys, "argv", ["scripts/train_editor.py", "--output", "somewhere"])
    cli.run_renamed("scripts/train_editor.py", "editor train")
    assert ran == [("editor train", ["--output", "somewhere"])]
    assert capsys.readouterr().err == (
        "scripts/train_editor.py is now `latenteditor editor train`; this name goes with the next release.\n"
    )
