# Sourced by demo.sh and test.sh: makes .venv beside this folder and installs the package with the given extras.
# Needs Python 3.10 to 3.12 and nothing else; uses uv where it is installed, which takes a minute, else pip.

cd "$(dirname "${BASH_SOURCE[0]}")/.."

find_python() {
    local candidate
    for candidate in python3.11 python3.12 python3.10 python3 python; do
        if command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))'; then
            echo "$candidate"
            return
        fi
    done
    echo "Python 3.10, 3.11 or 3.12 is needed, and none is on the PATH." >&2
    exit 1
}

install_package() {
    local wanted=".$1" stamp=.venv/installed
    if [ ! -x .venv/bin/python ]; then
        if command -v uv >/dev/null 2>&1; then
            uv venv --quiet --python "$(find_python)" .venv
        else
            "$(find_python)" -m venv .venv
        fi
    fi
    if [ ! "$stamp" -nt pyproject.toml ] || ! grep -qxF "$wanted" "$stamp"; then
        echo "Installing into .venv (several GB, most of it torch) ..."
        if command -v uv >/dev/null 2>&1; then
            uv pip install --quiet --python .venv/bin/python -e "$wanted"
        else
            .venv/bin/python -m pip install --quiet --disable-pip-version-check -e "$wanted"
        fi
        echo "$wanted" >>"$stamp"
    fi
    # Two threads that wait for each other by spinning make small networks slower, not faster.
    export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
    export PATH="$PWD/.venv/bin:$PATH"
}
