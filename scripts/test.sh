#!/usr/bin/env bash
# Installs the package with what its tests need, then runs them. Further arguments go to pytest.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
install_package "[test]"
# A file's tests share what is costly to make, so files are what the processes share out.
exec python -m pytest --numprocesses "${TEST_PROCESSES:-2}" --dist loadfile "$@"
