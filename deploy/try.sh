#!/bin/sh
# lacuna-ts on this machine, against a stand-in tailscaled and a stand-in provider: `sh deploy/try.sh [--once] [--port N]`.
# Needs Python 3.11 or newer with pip. Installs into a folder of its own under ~/.cache/lacuna-ts, which may be deleted.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
. "$root/deploy/venv.sh"

ensure_venv try "$root/requirements.lock" "$root/deploy/build.lock"

# lacuna-ts itself is installed again whenever the checkout differs from what is installed.
source=$(fingerprint "" "$root/lacuna_ts" "$root/pyproject.toml" "$root/README.md")
if [ "$(cat "$venv/.lacuna-ts" 2>/dev/null)" != "$source" ]; then
    hold "$cache/$name-$place.lock"
    "$venv/bin/python" -m pip install --quiet --no-deps --no-build-isolation --no-index --force-reinstall "$root" ||
        die "lacuna-ts could not be installed from $root"
    echo "$source" >"$venv/.lacuna-ts"
    release
fi

exec "$venv/bin/lacuna-ts" demo "$@"
