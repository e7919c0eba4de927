"""Which text may become a label: the names of models and the labels of grants.

Callers write model names, so a name must prove itself before it makes a series. Operators write grant labels, so those
are only brought into the form that a label needs.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Final

from lacuna_ts.terms import printable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from lacuna_ts.telemetry.metrics import LabelPairs

_log = logging.getLogger(__name__)

OTHER: Final = "other"
LEARNT_MODELS: Final = 500
_USER_LIMIT: Final = 1_000  # a machine with many tags: cut short, it would share its series with others like it
LABEL_KEYS: Final = 8
_NAME_LIMIT: Final = 128
_KEY_LIMIT: Final = 64
_NOT_IN_LABEL_NAMES: Final = re.compile(r"[^a-zA-Z0-9_]")


class ModelNames:
    """The model names that may be labels.

    A learnt name is never forgotten to make room: a provider that answers any name with 200 would let one caller
    replace all names again and again, and each replacement would leave series behind.
    """

    def __init__(self, configured: Iterable[str] = ()) -> None:
        self._learnt: set[str] = set()
        self.known: Collection[str] = frozenset()  # for the hot path: `in` before any call
        self.configure(configured)

    def configure(self, configured: Iterable[str]) -> None:
        """Take the listed and discovered names anew; what was learnt stays."""
        self._configured = frozenset(configured)
        self.known = self._configured | self._learnt | {""}

    def label(self, model: str, *, is_answered: bool) -> str:
        """The label for `model`, learning its name when a provider just answered it with 2xx."""
        if model in self.known:
            return model
        if not is_answered or len(self._learnt) >= LEARNT_MODELS or not _is_plain(model):
            return OTHER
        self._learnt.add(model)
        self.known = self._configured | self._learnt | {""}
        return model


class GrantLabels:
    """Turns the labels of grants and providers into `label_*` pairs, sorted by name."""

    def __init__(self, allowed: Collection[str] | None = None) -> None:
        """`allowed` are the keys of `metrics.labels`; None means the first `LABEL_KEYS` that are seen."""
        self._allowed = None if allowed is None else frozenset(allowed)
        self._seen: set[str] = set()
        self._has_warned = False

    def pairs(self, labels: Mapping[str, str]) -> LabelPairs:
        """The label pairs for `labels`. Keys that become equal share their values, sorted and joined by commas."""
        values: dict[str, set[str]] = {}
        for key in sorted(labels):
            name = "label_" + _NOT_IN_LABEL_NAMES.sub("_", key[:_KEY_LIMIT])
            if self._admits(key, name):
                values.setdefault(name, set()).add(labels[key])
        return tuple((name, printable(",".join(sorted(values[name])))) for name in sorted(values))

    def _admits(self, key: str, name: str) -> bool:
        if self._allowed is not None:
            return key in self._allowed
        if name in self._seen:
            return True
        if len(self._seen) < LABEL_KEYS:
            self._seen.add(name)
            return True
        if not self._has_warned:
            self._has_warned = True
            _log.warning("grant label %s is left out of the metrics: name the wanted ones in metrics.labels", name)
        return False


def user_label(user: str) -> str:
    """The label for `Caller.label`."""
    return printable(user, _USER_LIMIT)


def _is_plain(model: str) -> bool:
    return len(model) <= _NAME_LIMIT and printable(model) == model
