#!/usr/bin/env bash
# Writes a built-in world, reconstructs it, edits it and measures the edit:
#     bash scripts/demo.sh "make the cone blue"
# The prompt may name any solid of the world; further arguments go to scripts/edit_worlds.py.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
install_package ""
# ns-render calls ffmpeg by its name; where there is none, the one that came as a Python package serves.
if ! command -v ffmpeg >/dev/null 2>&1; then
    ln -sf "$(python -c 'import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe())')" .venv/bin/ffmpeg
fi
prompt=()
if [ $# -gt 0 ] && [ "${1#--}" = "$1" ]; then
    prompt=(--prompt "$1")
    shift
fi
python scripts/edit_worlds.py --output "demo/$(date +%Y%m%d-%H%M%S)" "${prompt[@]}" "$@"
