"""Joins reports of check_transformers.py from one machine.

    python3 merge.py OUT.json REPORT.json ...

Of a case in which nothing differs, the table by site is left out. A model's path becomes its name.
"""

import json
import os
import sys

out, *paths = sys.argv[1:]
joined = {"versions": None, "cases": []}
for path in paths:
    report = json.load(open(path))
    if joined["versions"] not in (None, report["versions"]):
        sys.exit(f"{path} is of {report['versions']}, the one before of {joined['versions']}; join reports of one machine")
    joined["versions"] = report["versions"]
    for case in report["cases"]:
        model, rest = case["case"].split(":", 1)
        case["case"] = f"{os.path.basename(model)}:{rest}"
        if case.get("differ") == 0:
            del case["table"]
        joined["cases"].append(case)
with open(out, "w") as file:
    json.dump(joined, file, indent=0)
    file.write("\n")
