"""Is now `latenteditor editor train`."""

from latenteditor.cli import run_renamed

if __name__ == "__main__":
    run_renamed("scripts/train_editor.py", "editor train")
