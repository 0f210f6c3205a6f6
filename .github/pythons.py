"""Print the Pythons that the classifiers name, as outputs of a workflow's step."""

from __future__ import annotations

import json
import re
import tomllib

from pathlib import Path


project = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["project"]
pythons = [
    match[1]
    for each in project["classifiers"]
    if (match := re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", each))
]
# The first free-threaded one that is more than an experiment.
free_threaded = [f"{each}t" for each in pythons if each >= "3.14"]

print(f"pythons={json.dumps(pythons)}")
print(f"free-threaded={json.dumps(free_threaded)}")
