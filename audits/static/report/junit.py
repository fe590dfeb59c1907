"""JUnit XML: one test case for each rule that ran, failing with its findings."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from audits.static.findings import Report
from audits.static.rules import all_rules


def render(report: Report) -> str:
    """The whole report."""
    rules = all_rules()
    by_rule = {code: [f for f in report.findings if f.rule == code] for code in report.checked}
    failures = sum(1 for found in by_rule.values() if found)
    seconds = f"{sum(report.timings_s.values()):.3f}"
    counts = {"tests": str(len(by_rule) + len(report.not_configured)), "failures": str(failures)}
    suite = ET.Element("testsuite", {**counts, "name": "audits.static", "time": seconds, "errors": "0"})
    suite.set("skipped", str(len(report.not_configured)))
    for code, found in by_rule.items():
        case = ET.SubElement(suite, "testcase", classname="audits.static", name=f"{code} {rules[code].title}")
        if found:
            failure = ET.SubElement(case, "failure", message=found[0].message, type=code)
            failure.text = "\n".join(f"{f.path}:{f.line}:{f.column}: {f.message}" for f in found)
    for code in report.not_configured:
        case = ET.SubElement(suite, "testcase", classname="audits.static", name=f"{code} {rules[code].title}")
        ET.SubElement(case, "skipped", message="not configured")
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"
