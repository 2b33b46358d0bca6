"""All targets, by name."""

from __future__ import annotations

from fuzzing.target import Target
from fuzzing.targets import building, formats, own_files, runs, serving, settings

TARGETS: dict[str, Target] = {
    target.name: target
    for module in (formats, building, own_files, runs, settings, serving)
    for target in module.TARGETS
}
