"""Is now `latenteditor prompts`."""

from latenteditor.cli import run_renamed

if __name__ == "__main__":
    run_renamed("scripts/edit_several.py", "prompts")
