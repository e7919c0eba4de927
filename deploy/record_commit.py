"""Writes the git commit into what is built, for `lacuna-ts --version`: a step of hatchling, named in pyproject.toml."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class RecordCommit(BuildHookInterface):
    """Adds `lacuna_ts/commit.txt` where the source is a git checkout. An sdist keeps the one that it was made with."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before each build."""
        if version == "editable":  # runs from the checkout, and reads it
            return
        root = Path(self.root)
        source = root / "lacuna_ts" / "cli" / "version.py"
        spec = importlib.util.spec_from_file_location("_lacuna_ts_version", source)
        if spec is None or spec.loader is None:
            raise ImportError(f"{source} cannot be loaded")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        commit = module.commit_of_checkout(root)
        if commit is None:
            return
        self._folder = tempfile.TemporaryDirectory(prefix="lacuna-ts-build-")
        recorded = Path(self._folder.name) / module.RECORDED
        recorded.write_text(f"{commit}\n", encoding="ascii")
        build_data["force_include"][str(recorded)] = f"lacuna_ts/{module.RECORDED}"
