#!/bin/sh
# Writes the lock files anew from pyproject.toml, with the newest versions that it allows: `sh deploy/lock.sh`.
# One file serves every Python and platform that we support; each pin carries the hashes of all its builds.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
. "$root/deploy/venv.sh"

find_python
find_cache
[ -x "$cache/lock/bin/python" ] || make_venv "$cache/lock"
"$cache/lock/bin/python" -m pip install --quiet --upgrade uv
unset PIP_FIND_LINKS

cd "$root"
# compile LOCK ARGUMENT...
compile() {
    lock=$1
    shift
    "$cache/lock/bin/uv" pip compile --quiet --upgrade --universal --generate-hashes --python-version 3.11 \
        --no-emit-index-url --no-emit-find-links --no-header "$@" --output-file "$lock.new"
    { echo "# Written by deploy/lock.sh from pyproject.toml; not by hand."; cat "$lock.new"; } >"$lock"
    rm "$lock.new"
}
compile requirements.lock pyproject.toml
compile deploy/build.lock --group build
compile tests/requirements.lock pyproject.toml --constraints requirements.lock --constraints deploy/build.lock \
    --group build --group test --group lint --group types
compile tests/clients.lock --group clients
