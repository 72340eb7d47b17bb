"""Is now `latenteditor editor sweep`."""

from latenteditor.cli import run_renamed

if __name__ == "__main__":
    run_renamed("scripts/sweep_delta_mask.py", "editor sweep")
