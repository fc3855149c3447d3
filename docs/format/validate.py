#!/usr/bin/env python3
"""Validates experiment JSON files and containers against the published schemas with a complete implementation.

    pip install jsonschema
    python validate.py FILE_OR_DIR...
"""

import json
import sys
from pathlib import Path

from jsonschema import Draft202012Validator

HERE = Path(__file__).parent


def check(path, schema):
    schema = json.loads((HERE / schema).read_text())
    Draft202012Validator.check_schema(schema)
    errors = list(Draft202012Validator(schema).iter_errors(json.loads(path.read_text())))
    for error in errors[:5]:
        print(f"{path}: {error.json_path}: {error.message[:200]}")
    print(f"{path}: {'invalid' if errors else 'valid'}")
    return not errors


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    valid = True
    for path in map(Path, sys.argv[1:]):
        if path.is_dir():
            valid &= check(path / "manifest.json", "manifest.schema.json")
            if (path / "timing.json").exists():
                valid &= check(path / "timing.json", "timing.schema.json")
        else:
            valid &= check(path, "experiment.schema.json")
    sys.exit(0 if valid else 1)


if __name__ == "__main__":
    main()
