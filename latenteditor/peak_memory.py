"""How much main memory a command holds: ``python -m latenteditor.peak_memory FILE COMMAND...``.

It writes the most bytes that the command, or any one process it waited for, held at once, and ends with the command's
exit code. A small process of its own, because the system counts for a new process what its parent held when it started.
Needs Linux or macOS.
"""

import resource
import signal
import subprocess
import sys
from pathlib import Path

UNIT = 1 if sys.platform == "darwin" else 1024
"""The unit of the system's figure in bytes: macOS states bytes, Linux kilobytes."""


def main(file: Path, command: list[str]) -> int:
    """Runs the command, writes its peak to the file, and returns its exit code as a shell would state it."""
    process = subprocess.Popen(command)
    # Who ends this process wants the command to end, and the command may have something to save.
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    code = process.wait()
    file.write_text(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * UNIT))
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), sys.argv[2:]))
