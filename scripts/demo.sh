#!/usr/bin/env bash
# Installs the package, then writes a built-in world, reconstructs it, edits it and measures the edit:
#     bash scripts/demo.sh "make the cone blue"
# The prompt may name any solid of the world; further arguments go to `latenteditor demo`.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
install_package ""
prompt=()
if [ $# -gt 0 ] && [ "${1#--}" = "$1" ]; then
    prompt=(--prompt "$1")
    shift
fi
exec latenteditor demo ${prompt[@]+"${prompt[@]}"} "$@"
