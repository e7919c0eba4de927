"""Every metric family that we publish, in one table: the source of the registry and of the reference page."""

from __future__ import annotations

from typing import Final

from lacuna_ts.telemetry.metrics import FamilySpec

# An answer of an agent may take half an hour; what we add ourselves should be found in the first few.
DURATIONS: Final = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0,
)  # fmt: skip
OVERHEADS: Final = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, *DURATIONS)
WHOIS_DURATIONS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)

_BASE: Final = ("provider", "handler", "user", "model", "user_agent")


def _lacuna(name: str, text: str) -> FamilySpec:
    return FamilySpec(f"lacuna_provider_{name}", "counter", text, _BASE, has_grant_labels=True)


# The six that Lacuna has: same names, labels and meaning, and the figures are the provider's own.
PROVIDER_REQUESTS: Final = _lacuna("requests_total", "Requests that a provider answered, with whatever status.")
PROVIDER_INPUT: Final = _lacuna("tokens_input_total", "Input tokens as the provider reported them.")
PROVIDER_OUTPUT: Final = _lacuna("tokens_output_total", "Output tokens as the provider reported them.")
PROVIDER_TOKENS: Final = _lacuna("tokens_total", "Input and output tokens together, as the provider reported them.")
PROVIDER_CACHE_CREATION: Final = _lacuna(
    "tokens_cache_creation_total",
    "Tokens written to the provider's prompt cache, by how long they are kept: 5m, 1h or unknown.",
)
PROVIDER_CACHE_READ: Final = _lacuna("tokens_cache_read_total", "Tokens read from the provider's prompt cache.")

USAGE_TOKENS: Final = FamilySpec(
    "lacuna_usage_tokens_total",
    "counter",
    "Tokens used, comparable over dialects: input includes cache reads and writes, output includes reasoning. "
    "Kinds: input, output, cache_read, cache_write, reasoning.",
    ("provider", "user", "model", "kind"),
)
REQUESTS: Final = FamilySpec(
    "lacuna_requests_total",
    "counter",
    "Requests by the status that the caller was told (0: nothing was said) and by how they ended.",
    ("provider", "handler", "user", "model", "status", "outcome"),
)
REFUSALS: Final = FamilySpec(
    "lacuna_refusals_total", "counter", "Errors of our own making, by their code.", ("code", "user")
)
REQUEST_SECONDS: Final = FamilySpec(
    "lacuna_request_seconds",
    "histogram",
    "From the beginning of a request to the end of its answer, for requests that went to a provider.",
    ("provider", "handler"),
    DURATIONS,
)
FIRST_BYTE_SECONDS: Final = FamilySpec(
    "lacuna_first_byte_seconds",
    "histogram",
    "From the beginning of a request to the first byte of its answer.",
    ("provider", "handler"),
    DURATIONS,
)
OVERHEAD_SECONDS: Final = FamilySpec(
    "lacuna_overhead_seconds",
    "histogram",
    "From a request being complete to it being sent to the provider.",
    ("provider", "handler"),
    OVERHEADS,
)
IN_FLIGHT: Final = FamilySpec(
    "lacuna_in_flight", "gauge", "Requests that are with a provider or being answered.", ("provider",)
)
ACTIVE_CALLERS: Final = FamilySpec("lacuna_active_callers", "gauge", "Callers with a request in flight.")
WHOIS_SECONDS: Final = FamilySpec(
    "lacuna_whois_seconds", "histogram", "How long tailscaled took to say who a caller is.", (), WHOIS_DURATIONS
)
WHOIS: Final = FamilySpec(
    "lacuna_whois_total",
    "counter",
    "Questions to tailscaled about a caller: known, unknown (it does not know the address), unavailable (no answer).",
    ("result",),
)
POLICY_ERRORS: Final = FamilySpec(
    "lacuna_policy_errors_total", "counter", "Policy entries that could not be read and gave nothing.", ("capability",)
)
UPSTREAM_ERRORS: Final = FamilySpec(
    "lacuna_upstream_errors_total", "counter", "Failures of a provider, by their kind.", ("provider", "kind")
)
COST: Final = FamilySpec(
    "lacuna_cost_usd_total",
    "counter",
    "Dollars that were used, by the price of the model that was called. Unpriced requests are not in it.",
    ("provider", "user", "model"),
)
UNPRICED: Final = FamilySpec(
    "lacuna_unpriced_requests_total",
    "counter",
    "Requests that used tokens for which there is no price.",
    ("provider", "model"),
)
LEDGER_QUEUE: Final = FamilySpec("lacuna_ledger_queue", "gauge", "Notes that wait to be written to the ledger.")
TAILSCALED_UP: Final = FamilySpec("lacuna_tailscaled_up", "gauge", "Whether tailscaled answers and is running.")
BUS_UP: Final = FamilySpec("lacuna_bus_up", "gauge", "Whether tailscaled's notifications arrive.")
NODE_KEY_EXPIRY: Final = FamilySpec(
    "lacuna_node_key_expiry_seconds",
    "gauge",
    "Seconds until this node's key expires; negative when it has, absent when it never does.",
)
RELOADS: Final = FamilySpec(
    "lacuna_reloads_total", "counter", "Configuration reloads: success or failure.", ("result",)
)
SERIES_DROPPED: Final = FamilySpec(
    "lacuna_series_dropped_total", "counter", "Series that were not made because `metrics.max_series` was reached."
)
LIMIT_REMAINING: Final = FamilySpec(
    "lacuna_limit_remaining_ratio",
    "gauge",
    "How much of a limit is left, from 1 (all) to 0 (nothing); `limit` says where it stands and which amount.",
    ("user", "limit"),
)
LIMIT_NOTICES: Final = FamilySpec(
    "lacuna_limit_notices_total",
    "counter",
    "Daily and monthly limits that passed a threshold: 50, 80 or 100 per cent, each once in a period.",
    ("limit", "threshold"),
)
BUILD_INFO: Final = FamilySpec("lacuna_build_info", "info", "The version that runs; always 1.", ("version", "python"))

FAMILIES: Final[tuple[FamilySpec, ...]] = (
    PROVIDER_REQUESTS, PROVIDER_INPUT, PROVIDER_OUTPUT, PROVIDER_TOKENS, PROVIDER_CACHE_CREATION, PROVIDER_CACHE_READ,
    USAGE_TOKENS, REQUESTS, REFUSALS, REQUEST_SECONDS, FIRST_BYTE_SECONDS, OVERHEAD_SECONDS, IN_FLIGHT, ACTIVE_CALLERS,
    COST, UNPRICED, WHOIS_SECONDS, WHOIS, POLICY_ERRORS, LEDGER_QUEUE, UPSTREAM_ERRORS, TAILSCALED_UP, BUS_UP,
    NODE_KEY_EXPIRY, RELOADS, SERIES_DROPPED, LIMIT_REMAINING, LIMIT_NOTICES, BUILD_INFO,
)  # fmt: skip

CACHE_DURATION: Final = "cache_duration"  # stands last, after the grant labels

_INTRODUCTION: Final = """\
# Metrics

`GET /metrics` needs the role `metrics` or `admin`, or the token of `metrics.token`. `GET /metrics/me` gives every
caller their own series. The text is Prometheus 0.0.4, or OpenMetrics 1.0.0 when the scraper prefers it; there a
counter family is named without `_total`. `process_*` and `python_*` come with it, but not under `/metrics/me`.

- `user` is the login, or a tagged node's tags, sorted and joined by commas.
- `model` is the name that was judged: after aliases, before rewrites. It is shown when it is listed or discovered, or
  when a provider answered it with a 2xx status; the first 500 of these are kept until a restart. All others are
  `other`: no series is made from text that a caller invented.
- `user_agent` is the known client (`claude-code`), `unknown`, or empty.
- `label_*` are the labels of grants and providers, only on series that have them. `metrics.labels` names the keys;
  without it the first eight keys that are seen are used. Characters outside `[A-Za-z0-9_]` become `_`; the values of
  keys that become equal by that are sorted and joined by commas.
- `node`, the name of the calling node, stands before them when `metrics.node_label` is set.
- `metrics.max_series` bounds everything but `process_*`, `python_*` and gauges. A tenth of it is kept for families
  that do not grow with callers.
"""


def reference_page() -> str:
    """`docs/metrics.md`: the introduction and one row per family."""
    rows = ["| metric | kind | labels | meaning |", "|---|---|---|---|"]
    for spec in FAMILIES:
        labels = [f"`{label}`" for label in spec.labels]
        if spec.has_grant_labels:
            labels.append("`label_*`")
        if spec is PROVIDER_CACHE_CREATION:
            labels.append(f"`{CACHE_DURATION}`")
        rows.append(f"| `{spec.name}` | {spec.kind} | {', '.join(labels)} | {spec.help} |")
    rows.append("\nUpper bounds of the buckets, in seconds:\n")
    rows.extend(
        f"- `{spec.name}`: {', '.join(f'{bound:g}' for bound in spec.buckets)}" for spec in FAMILIES if spec.buckets
    )
    return _INTRODUCTION + "\n" + "\n".join(rows) + "\n"
