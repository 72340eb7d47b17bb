"""The old name of `latenteditor evaluate`."""

from latenteditor.cli import run_renamed

if __name__ == "__main__":
    run_renamed("scripts/evaluate_edit.py", "evaluate")
