"""Verifications as JUnit XML, which CI systems show as test results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tvmbuild.support.escape import xml_attribute, xml_text

JUNIT_NAME = "verification.xml"


def junit_text(verifications: Iterable[tuple[str, Mapping[str, Any]]]) -> str:
    """Return one test suite an artifact, with one test case an output.

    Args:
        verifications: name of each artifact and what ``verify`` reported of it, as JSON has it.
    """
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', "<testsuites>"]
    for name, report in verifications:
        outputs = report["outputs"]
        failed = sum(1 for output in outputs if not output["passed"])
        lines.append(f'  <testsuite name={xml_attribute(name)} tests="{len(outputs)}" failures="{failed}">')
        for output in outputs:
            case = xml_attribute(f"{output['spec']['name']} is as ONNX Runtime's")
            words = f"difference {float(output['relative']):.0e}, allowed {float(output['tolerance']):.0e}"
            lines.append(f"    <testcase classname={xml_attribute(name)} name={case}>")
            if not output["passed"]:
                lines.append(f"      <failure message={xml_attribute(words)}/>")
            lines.append(f"      <system-out>{xml_text(words)} on {xml_text(str(report['device']))}</system-out>")
            lines.append("    </testcase>")
        lines.append("  </testsuite>")
    return "\n".join([*lines, "</testsuites>", ""])
