"""Prints the lowest allowed version of each direct dependency, as pip constraints.

Usage: lowest_versions.py TORCH, where TORCH is the version of torch to take.
"""

import re
import sys
import tomllib

with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)["project"]
extras = project["optional-dependencies"].values()
for requirement in [*project["dependencies"], *(word for extra in extras for word in extra)]:
    if requirement.startswith("kgrec["):
        continue
    bound = re.match(r"([\w.-]+)(?:\[[\w,]+\])?>=([\w.]+)", requirement)
    if bound is None:
        sys.exit(f"pyproject.toml: found {requirement!r}, expected a lower bound, as NAME>=VERSION")
    name, version = bound.groups()
    sys.stdout.write(f"{name}=={sys.argv[1] if name == 'torch' else version}\n")
