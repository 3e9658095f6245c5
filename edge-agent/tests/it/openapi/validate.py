"""Holds JSON values against a JSON Schema: `{"schema", "values"}` in, what is wrong with each value out."""

import json
import sys

from jsonschema_rs import Draft202012Validator


def main() -> None:
    work = json.load(sys.stdin)
    validator = Draft202012Validator(work["schema"])
    told = [
        [f"{error.message} at /{'/'.join(map(str, error.instance_path))}" for error in validator.iter_errors(value)]
        for value in work["values"]
    ]
    json.dump(told, sys.stdout)


main()
