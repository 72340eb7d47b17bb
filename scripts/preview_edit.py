"""The old name of `latenteditor preview`."""

from latenteditor.cli import run_renamed

if __name__ == "__main__":
    run_renamed("scripts/preview_edit.py", "preview")
