"""Is now `latenteditor demo`, which makes a new folder where this made outputs/worlds."""

import sys

from latenteditor.cli import run_renamed

if __name__ == "__main__":
    if not any(word.startswith("--output") for word in sys.argv):
        sys.argv += ["--output", "outputs/worlds"]
    run_renamed("scripts/edit_worlds.py", "demo")
