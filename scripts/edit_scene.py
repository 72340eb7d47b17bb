"""The old name of `latenteditor edit-scene`."""

from latenteditor.cli import run_renamed

if __name__ == "__main__":
    run_renamed("scripts/edit_scene.py", "edit-scene")
