"""Is now `latenteditor editor evaluate`."""

from latenteditor.cli import run_renamed

if __name__ == "__main__":
    run_renamed("scripts/evaluate_editor.py", "editor evaluate")
