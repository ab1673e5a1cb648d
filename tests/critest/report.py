#!/usr/bin/env python3
"""Prints what upstream's CRI validation suite made of a runtime, from ginkgo's JSON report.

usage: report.py --expected expected.tsv --runtime NAME --handler NAME --seconds S report.json

A line of expected.tsv: runtime or "any", outcome (skipped, failed, or flaky: it may fail), a part of the spec's name, the reason; separated
by tabs. Exit code 1 when a spec failed or was skipped that no such line names.
"""
import argparse
import json
import re
import sys

MESSAGE_LINES = 4
LINE_COLUMNS = 300
# How gomega prints a Go error around its text.
NOISE = re.compile(r"\s*(Unexpected error:|<\*.*>:?|\w*:? ?\{?\}?,?|)\s*")


def expectations(path, runtime):
    """[(outcome, part of the name, reason)] for this runtime ("keelson", or "keelson/crun" for one handler)."""
    found = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            if line.strip() and not line.startswith("#"):
                who, outcome, part, reason = line.rstrip("\n").split("\t")
                if who in ("any", runtime, runtime.split("/")[0]):
                    found.append((outcome, part, reason))
    return found


def specs(path):
    """(name, outcome, message) of each spec that the run selected."""
    with open(path, encoding="utf-8") as file:
        report = json.load(file)[0]
    for spec in report["SpecReports"]:
        if spec["LeafNodeType"] != "It":
            if spec["State"] not in ("passed", "skipped"):
                yield spec["LeafNodeType"], "failed", spec.get("Failure", {}).get("Message", "")
            continue
        failure = spec.get("Failure", {})
        # A spec that a filter left out says nothing; one that skipped itself says why.
        if spec["State"] in ("pending", "skipped") and not failure.get("Message"):
            continue
        name = " ".join(spec["ContainerHierarchyTexts"] + [spec["LeafNodeText"]]).removeprefix("[k8s.io] ")
        outcome = spec["State"] if spec["State"] in ("passed", "skipped") else "failed"
        yield name, outcome, failure.get("Message", "")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--expected", required=True)
    parser.add_argument("--runtime", required=True)
    parser.add_argument("--handler", default="")
    parser.add_argument("--seconds", type=int, default=0)
    parser.add_argument("report")
    args = parser.parse_args()
    runtime = args.runtime + ("/" + args.handler if args.handler else "")
    expected = expectations(args.expected, runtime)
    count = {"passed": 0, "failed": 0, "skipped": 0}
    unexpected, named, now_passing = [], {}, []
    for name, outcome, message in specs(args.report):
        count[outcome] += 1
        matching = [(what, reason) for what, part, reason in expected if part in name]
        if outcome == "failed":
            matching = [("failed" if what == "flaky" else what, reason) for what, reason in matching]
        if outcome == "passed":
            # One that is skipped is not impossible: another host may have what it needs.
            now_passing += [name] * any(what == "failed" for what, _ in matching)
        elif any(what == outcome for what, _ in matching):
            reason = next(reason for what, reason in matching if what == outcome)
            named.setdefault((outcome, reason), []).append(name)
        else:
            unexpected.append((outcome, name, message))
    for (outcome, reason), names in sorted(named.items()):
        print(f"    {outcome} as expected, {len(names)}: {reason}")
        for name in names if outcome == "failed" else []:
            print(f"        {name}")
    for name in now_passing:
        print(f"    passed, though expected.tsv says it cannot: {name}")
    for outcome, name, message in unexpected:
        print(f"    {outcome.upper()}: {name}")
        for line in [line for line in message.splitlines() if not NOISE.fullmatch(line)][:MESSAGE_LINES]:
            print(f"        {line.strip()[:LINE_COLUMNS]}")
    if sum(count.values()) == 0:
        print("    no spec was run")
        unexpected.append(None)
    print(f"  {'not ok' if unexpected else 'ok'} {runtime}: {count['passed']} passed, {count['failed']} failed, "
          f"{count['skipped']} skipped ({args.seconds} s)")
    sys.exit(1 if unexpected else 0)


if __name__ == "__main__":
    main()
