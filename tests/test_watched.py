"""Commands that take long say how far they are, and leave no process behind."""

import sys
import time
from pathlib import Path

import pytest

from latenteditor import watched
from latenteditor.watched import Progress, run_watched, share_done, spoken


def command(monkeypatch, program: str) -> list[str]:
    monkeypatch.setattr(watched, "installed", lambda words: [sys.executable, "-c", *words[1:]])
    return ["python", program]


def test_a_command_is_run_to_its_end_and_its_memory_is_measured(monkeypatch, tmp_path):
    words = command(monkeypatch, "import sys; b = bytearray(64 << 20); print('done'); sys.stdout.flush()")
    held = run_watched(words, tmp_path / "logs/a.log", "a", print)
    assert held > 64 << 20 and (tmp_path / "logs/a.log").read_text() == "done\n"
    assert [file.name for file in (tmp_path / "logs").iterdir()] == ["a.log"]


def test_a_command_that_fails_shows_the_end_of_its_log(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="(?s)failed; the end of .*a.log:.*no such luck"):
        run_watched(command(monkeypatch, "raise SystemExit('no such luck')"), tmp_path / "a.log", "a", print)


def test_a_command_is_ended_when_whoever_waits_is_interrupted(monkeypatch, tmp_path):
    program = f"import time\ntry: time.sleep(60)\nfinally: open({str(tmp_path / 'ended')!r}, 'w')"
    said = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))\n"

    def interrupt(*_):
        time.sleep(1)
        raise KeyboardInterrupt

    monkeypatch.setattr(watched, "PATIENCE", 2.0)
    monkeypatch.setattr(watched, "share_done", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_watched(command(monkeypatch, said + program), tmp_path / "a.log", "a", print)
    for _ in range(50):
        if (tmp_path / "ended").exists():
            break
        time.sleep(0.1)
    assert (tmp_path / "ended").exists()


@pytest.mark.parametrize(
    "log, share",
    [
        ("", None),
        ("nothing to see", None),
        ("Photograph 3 of 12\nPhotograph 6 of 12\n", 0.5),
        ("\x1b[2K10 (1.00%)   20 ms\n1030 (91.96%)  234 ms 21 s\n", 0.9196),
        ("1030 (91.96%)  234 ms\nPhotograph 1 of 4\n", 0.25),
        ("x" * 20_000 + "\n10 of 10", 1.0),
    ],
)
def test_progress_is_read_from_the_end_of_a_log(tmp_path, log, share):
    file = tmp_path / "log"
    file.write_text(log)
    assert share_done(file) == (share if share is None else pytest.approx(share))


def test_what_is_left_is_reckoned_from_where_the_command_began():
    said: list[str] = []
    progress = Progress("edit", said.append, began=0.0)
    for share, now in ((None, 1.0), (0.5, 10.0), (0.55, 20.0), (0.75, 60.0), (0.76, 61.0), (1.0, 120.0)):
        progress.look(share, now)
    assert said == ["  edit: 75%, about 60 s left"]


def test_durations_are_spoken():
    assert [spoken(seconds) for seconds in (0.2, 89.0, 600.0, 7200.0)] == ["1 s", "89 s", "10 min", "2.0 h"]


def test_a_log_in_a_new_folder(monkeypatch, tmp_path):
    run_watched(command(monkeypatch, "print(1)"), Path(tmp_path / "x/y/z.log"), "z", print)
    assert (tmp_path / "x/y/z.log").is_file()
