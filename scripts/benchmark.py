"""Is now `latenteditor benchmark`."""

from latenteditor.cli import run_renamed

if __name__ == "__main__":
    run_renamed("scripts/benchmark.py", "benchmark")
