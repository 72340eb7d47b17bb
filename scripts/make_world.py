"""Is now `latenteditor world`."""

from latenteditor.cli import run_renamed

if __name__ == "__main__":
    run_renamed("scripts/make_world.py", "world")
