"""Whose project pays on Vertex AI, and where: the gateway's own, whatever a path says.

A caller's tools have to name some project, and their makers some placeholder. Where the gateway knows its project, that
is the one that goes up, because a credential may open several and the caller is not the one to choose among them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from lacuna_ts.errors import BadRequest

_PLACEHOLDER: Final = "_aperture_auto_vertex_"
_PATH: Final = re.compile(r"(/v1(?:beta1)?)(?:/projects/([^/]+)/locations/([^/]+))?(/publishers/.+)")
_HOST: Final = re.compile(
    r"https?://(?:([a-z0-9-]+)-aiplatform\.googleapis\.com|(aiplatform)\.googleapis\.com"
    r"|aiplatform\.([a-z]+)\.rep\.googleapis\.com)(?:[:/]|\Z)"
)


@dataclass(frozen=True, slots=True)
class VertexPlace:
    """What a provider knows of its place; "" for what it does not."""

    project: str = ""
    location: str = ""

    def placed(self, path: str) -> str:
        """Return `path` with our project, and our location where it names none. Raises BadRequest without either."""
        found = _PATH.fullmatch(path)
        if found is None:
            return path
        version, project, location, rest = found.groups()
        if project is None:
            if not (self.project and self.location):
                return path  # the express mode, which has a key and no project
            project = location = _PLACEHOLDER
        project = self.project or project
        location = self.location if location.startswith(_PLACEHOLDER) else location
        if project.startswith(_PLACEHOLDER) or not location:
            raise BadRequest("The gateway does not know its project or location here: name them in the path.")
        return f"{version}/projects/{project}/locations/{location}{rest}"


def location_of(base_url: str) -> str:
    """Return the location that a Vertex AI host stands for, "" for any other host."""
    found = _HOST.match(base_url)
    if found is None:
        return ""
    return found[1] or found[3] or "global"
