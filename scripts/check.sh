#!/usr/bin/env bash
# Format, lint and types, then the tests. Further arguments go to pytest.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
install_package "[dev]"
ruff format --check
ruff check
pyright
exec bash scripts/test.sh "$@"
