#!/usr/bin/env bash
# Installs the package with what its tests need, then runs them. Further arguments go to pytest.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
install_package "[test]"
exec python -m pytest "$@"
