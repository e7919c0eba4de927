#!/bin/sh
# Linters, types, layers and the whole suite: `sh tests/run.sh [--agents] [PYTEST ARGUMENT...]`.
# With pytest arguments only pytest runs, with just those. Without, everything runs, and a table at the end says what did
# and what did not and why. --agents (or CI in the environment) adds the agents and other clients, over a gigabyte on disk.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
. "$root/deploy/venv.sh"
exec </dev/null

agents=${CI:-}
if [ "${1:-}" = --agents ]; then
    agents=1
    shift
fi
# `false` and `0` are what people write who mean no.
case $agents in 0 | false | no) agents= ;; esac

cd "$root"
if [ -n "$agents" ]; then
    # What the Python clients are pinned to is no business of ours, so they live elsewhere.
    ensure_venv clients "$root/tests/clients.lock"
    export LACUNA_TS_CLIENTS_PYTHON="$venv/bin/python"
fi
ensure_venv tests "$root/tests/requirements.lock"
PATH=$venv/bin:$PATH
export PATH
if [ ! -f "$venv/.lacuna-ts" ]; then
    python -m pip install --quiet --no-deps --no-build-isolation --no-index --editable "$root"
    : >"$venv/.lacuna-ts"
fi

results=$(mktemp -d)
: >"$results/table"
failed=0

row() { printf '  %-22s %s\n' "$1" "$2" >>"$results/table"; }

# --- programs that no Python package brings ------------------------------------------------------------------------

# Debian starts services on installation; this is its own way to say no, and it goes when we go.
policy=/usr/sbin/policy-rc.d
start_no_services() {
    [ ! -e "$policy" ] || return 0
    printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy" && : >"$results/policy"
}
tidy() {
    [ ! -f "$results/policy" ] || rm -f "$policy"
    rm -rf "$results"
    release
}
trap tidy EXIT
trap 'tidy; trap - EXIT; exit 130' INT
trap 'tidy; trap - EXIT; exit 143' TERM

# debian PACKAGE PROGRAM WHY: has PROGRAM at the end, or a row that says what is not tested without it.
debian() {
    PATH=$PATH:/usr/sbin:/sbin command -v "$2" >/dev/null 2>&1 && return 0
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        say "Installing Debian's $1"
        if [ ! -f "$results/updated" ]; then
            apt-get -qq -o DPkg::Lock::Timeout=300 update >"$results/apt" 2>&1 || say "apt-get update: $(tail -n 1 "$results/apt")"
            : >"$results/updated"
        fi
        start_no_services
        DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends "$1" \
            >"$results/apt" 2>&1 && return 0
        say "$(tail -n 3 "$results/apt")"
    fi
    row "$2" "MISSING: $3 does not run (install $1)"
    return 1
}

# npm's clients, at the very versions that tests/agents names; among them the Node that runs them.
install_agents() {
    debian npm npm "what the agents are asked" || return 1
    place_agents=$cache/agents-$(fingerprint "" "$root/tests/agents")
    hold "$place_agents.lock"
    if [ ! -f "$place_agents/.complete" ]; then
        say "Installing the npm clients into $place_agents (the first time only)"
        rm -rf "$place_agents"
        mkdir -p "$place_agents"
        cp "$root"/tests/agents/*.json "$place_agents"
        if ! (cd "$place_agents" && npm ci --no-audit --no-fund --loglevel=error >&2); then
            release
            row agents "MISSING: npm could not install them"
            return 1
        fi
        # The program itself: the package around it would fetch it anew when it is installed.
        if [ -d "$place_agents/node_modules/opencode-linux-x64" ]; then
            ln -s ../opencode-linux-x64/bin/opencode "$place_agents/node_modules/.bin/opencode"
        fi
        : >"$place_agents/.complete"
    fi
    release
    PATH=$place_agents/node_modules/.bin:$PATH
}

debian curl curl "the caller that is curl" || true
debian postgresql pg_ctlcluster "the ledger in PostgreSQL" || true
debian git git "what reads the checkout's history" || true
if [ "$(uname -s)" = Linux ]; then
    debian nginx-light nginx "the measured comparison" || true
    debian wrk wrk "the measured comparison" || true
    debian iproute2 ip "direct mode in network namespaces" || true
    debian slowhttptest slowhttptest "the slow attack" || true
    debian systemd systemd-analyze "the check of the systemd unit" || true
    if [ -n "$agents" ] && grep -rqs --include='*.py' 'mark\.browser' tests; then
        debian chromium chromium "the web interface in a browser" || true
    fi
fi
if [ -n "$agents" ]; then
    install_agents || true
fi
PATH=$PATH:/usr/sbin:/sbin

if [ $# -gt 0 ]; then
    rc=0
    python -m pytest "$@" || rc=$?
    exit "$rc"
fi

# --- checks that run no code ----------------------------------------------------------------------------------------

# check NAME COMMAND...: shows what the command says only when it says no.
check() {
    label=$1
    shift
    say "== $label"
    if "$@" >"$results/out" 2>&1; then
        row "$label" ok
    else
        cat "$results/out"
        row "$label" FAILED
        failed=1
    fi
}

check "ruff check" ruff check --quiet .
check "ruff format" ruff format --check --quiet --diff .
check "mypy" mypy
check "import-linter" lint-imports

# --- the suites -----------------------------------------------------------------------------------------------------

# suite NAME MARKS COMMAND...: runs it for these marks, a pytest; its closing line goes into the table.
suite() {
    label=$1
    marks=$2
    shift 2
    say "== $label"
    { "$@" --color=no -q -m "$marks" && echo 0 >"$results/rc" || echo $? >"$results/rc"; } 2>&1 | tee "$results/out"
    rc=$(cat "$results/rc")
    closing=$(grep -E '^=* ?([0-9]+ (passed|failed|skipped|deselected|error)|no tests ran).* in [0-9.]+s' "$results/out" | tail -n 1 | tr -d =)
    printf '%s\n' "$closing" >>"$results/closings"
    case $rc in
        0) row "$label" "${closing:-ok}" ;;
        5) row "$label" "no such test" ;;
        *)
            row "$label" "FAILED (exit $rc): $closing"
            failed=1
            ;;
    esac
}

suite "fast tests" "not (netns or tailnet or realpeer or agents or slow or bench or browser)" coverage run -m pytest --numprocesses=3
[ "$rc" != 5 ] || failed=1
check "coverage, collected" coverage combine --quiet
check "coverage" coverage report
pure='lacuna_ts/framing/*,lacuna_ts/dialects/*,lacuna_ts/policy/*,lacuna_ts/metering/*,lacuna_ts/config/*'
check "coverage of the core" coverage report --include="$pure" --fail-under=95
suite "network namespaces" "netns and not (agents or bench)" python -m pytest
# Nobody packages these three together, and a tailnet of the tester's own is theirs to build: so they are only used.
absent=
for program in tailscaled tailscale headscale; do
    PATH=${LACUNA_TS_TAILNET_BIN:-$PATH} command -v "$program" >/dev/null 2>&1 || absent="$absent $program"
done
if [ -z "$absent" ]; then
    suite "real tailnet" "tailnet" python -m pytest
    with=$(PATH=${LACUNA_TS_TAILNET_BIN:+$LACUNA_TS_TAILNET_BIN:}$PATH tailscaled --version 2>/dev/null | sed -n 1p)
    row "" "with tailscaled ${with:-of unknown version}, and $(
        PATH=${LACUNA_TS_TAILNET_BIN:+$LACUNA_TS_TAILNET_BIN:}$PATH headscale version 2>/dev/null | sed -n 1p
    )"
    [ "$(id -u)" = 0 ] || row "" "NOT RUN without root: the half of it with TUN"
else
    row "real tailnet" "NOT RUN: needs$absent; name their directory in LACUNA_TS_TAILNET_BIN (deploy/tailnet-policy)"
fi
suite "real peers" "realpeer and not (netns or agents or bench)" python -m pytest
suite "slow tests" "slow and not (netns or realpeer or agents or bench or browser)" python -m pytest
suite "browser" "browser and not (agents or bench)" python -m pytest
if [ -n "$agents" ]; then
    suite "agents" "agents and not bench" python -m pytest
else
    row "agents" "NOT RUN: over a gigabyte; run with --agents or with CI set"
fi
suite "measurements" "bench" python -m pytest

# --- what happened --------------------------------------------------------------------------------------------------

echo
echo "What ran, and what did not:"
cat "$results/table"
echo
# The plain sum of pytest's own closing lines, as the last line.
awk '
    { for (i = 2; i <= NF; i++) { word = $i; sub(/,$/, "", word); count[word] += $(i - 1) } }
    END {
        printf "%d passed, %d failed, %d skipped\n", count["passed"] + count["xfailed"],
            count["failed"] + count["error"] + count["errors"], count["skipped"]
    }
' "$results/closings"
exit "$failed"
