# Sourced by deploy/try.sh and tests/run.sh. Finds a Python and keeps a virtual environment equal to lock files.
# Expects $root, the checkout. POSIX sh; needs Python 3.11 or newer with pip or ensurepip, and nothing else.

say() { printf '%s\n' "$*" >&2; }
die() {
    say "lacuna-ts: $*"
    exit 1
}

# What a person may have set for other projects and would break an environment of our own. The rest of PIP_* is honoured.
unset PYTHONHOME PYTHONPATH PIP_TARGET PIP_PREFIX PIP_ROOT PIP_REQUIREMENT PIP_CONSTRAINT PIP_NO_DEPS
export PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0 PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1

# Sets $python. The newest version that every locked wheel exists for comes first.
find_python() {
    for candidate in ${LACUNA_TS_PYTHON:-} python3.13 python3.12 python3.11 python3.14 python3 python; do
        python=$(command -v "$candidate" 2>/dev/null) || continue
        "$python" - 2>/dev/null <<'PY' && return 0
import importlib.util as find
import sys

usable = sys.version_info >= (3, 11) and find.find_spec("venv") and (find.find_spec("ensurepip") or find.find_spec("pip"))
sys.exit(not usable)
PY
    done
    die "no Python 3.11 or newer with pip was found (tried python3.13, 3.12, 3.11, 3.14, python3, python;" \
        "install one, or name it in LACUNA_TS_PYTHON)"
}

# Sets $cache: a folder of ours that outlives the run, in the checkout when the account has no other.
find_cache() {
    for cache in "${XDG_CACHE_HOME:-}" "${HOME:+$HOME/.cache}" "$root/.venv-cache"; do
        [ -n "$cache" ] || continue
        cache=$cache/lacuna-ts
        mkdir -p "$cache" 2>/dev/null && [ -w "$cache" ] && return 0
    done
    die "no folder for a virtual environment can be written; set XDG_CACHE_HOME"
}

# fingerprint TEXT PATH...: prints twelve hex digits for the text and the contents of files and of folders in depth.
fingerprint() {
    "$python" - "$@" <<'PY'
import hashlib
import pathlib
import sys

seen = hashlib.sha256(sys.argv[1].encode())
for path in map(pathlib.Path, sys.argv[2:]):
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file() and file.suffix != ".pyc":
            seen.update(str(file.relative_to(path.parent)).encode() + b"\0" + file.read_bytes())
print(seen.hexdigest()[:12])
PY
}

release() {
    [ -z "${held:-}" ] || rm -rf "$held"
    held=
}

# Two runs at once must not build into one folder. A holder that no longer lives is ignored.
hold() {
    patience=900
    until mkdir "$1" 2>/dev/null; do
        holder=$(cat "$1/pid" 2>/dev/null || true)
        if [ -n "$holder" ] && ! kill -0 "$holder" 2>/dev/null; then
            rm -rf "$1"
            continue
        fi
        patience=$((patience - 1))
        [ "$patience" -gt 0 ] || die "another run has been installing for too long; remove $1 if there is none"
        sleep 1
    done
    held=$1
    echo "$$" >"$1/pid"
}

# Debian's and other split Pythons may lack ensurepip: then the outer pip puts the locked pip into the new environment.
make_venv() {
    "$python" -m venv "$1" >/dev/null 2>&1 && return 0
    rm -rf "$1"
    "$python" -m venv --without-pip "$1" || die "$python cannot make a virtual environment in $1"
    site=$("$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    "$python" -m pip install --quiet --require-hashes --no-deps --target "$site" -r "$root/deploy/build.lock" ||
        die "pip of $python could not install pip into $1"
}

# ensure_venv NAME LOCK...: sets $venv to an environment that holds exactly what the locks name. Fast when it exists.
ensure_venv() {
    name=$1
    shift
    find_python
    find_cache
    place=$(fingerprint "$root")
    venv=$cache/$name-$place-$(fingerprint "$("$python" -c 'import sys; print(sys.executable, *sys.version_info[:2])')" "$@")
    trap release EXIT
    trap 'release; exit 130' INT
    trap 'release; exit 143' TERM
    hold "$cache/$name-$place.lock"
    if [ ! -f "$venv/.complete" ] || ! "$venv/bin/python" -c '' 2>/dev/null; then
        say "Installing the locked packages into $venv (the first time only)"
        rm -rf "$cache/$name-$place"-*
        make_venv "$venv"
        for lock in "$@"; do
            "$venv/bin/python" -m pip install --quiet --require-hashes --no-deps -r "$lock" ||
                die "the packages of $lock could not be installed"
        done
        : >"$venv/.complete"
    fi
    release
}
