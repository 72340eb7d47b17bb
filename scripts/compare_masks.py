"""Is now `latenteditor masks`."""

from latenteditor.cli import run_renamed

if __name__ == "__main__":
    run_renamed("scripts/compare_masks.py", "masks")
