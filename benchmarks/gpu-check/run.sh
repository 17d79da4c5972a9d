#!/bin/sh
# Starts the check of the folder that this file lies in. Needs a Python with torch, and a C++ compiler; no network.
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
PYTHON=${PYTHON:-python3}
if [ -z "${LIBTORCH:-}" ]; then
  LIBTORCH=$("$PYTHON" -c 'import importlib.util as u; print(u.find_spec("torch").submodule_search_locations[0])' 2>/dev/null) || {
    echo "gpu-check: $PYTHON has no torch, or is not there; set PYTHON to a Python that has it" >&2
    exit 1
  }
fi
export PYTHON LIBTORCH
exec "$here/node" "$here/benchmarks/dist/gpu-check/check.js" "$@"
