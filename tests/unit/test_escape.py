"""Text from outside in every language that is generated: it stays one text, or it is refused."""

from __future__ import annotations

import ast
import dataclasses
import html
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from test_artifact import MANIFEST

from tvmbuild.artifact.checksums import sums_text
from tvmbuild.artifact.depfile import depfile_text
from tvmbuild.artifact.manifest import Manifest, parse_manifest
from tvmbuild.device.fleet.provision import Provision
from tvmbuild.device.fleet.tracker import Address
from tvmbuild.releases.junit import junit_text
from tvmbuild.releases.notes import notes
from tvmbuild.releases.project_files import FILES, write_project
from tvmbuild.releases.templates import fill
from tvmbuild.support import escape
from tvmbuild.support.border import Border
from tvmbuild.support.errors import ArtifactError, OptionError, OutputError, TargetError, TvmbuildError
from tvmbuild.support.resolve import read_project_file
from tvmbuild.support.tensor import TensorSpec
from tvmbuild.target.target import Target, load_target

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: What breaks out of a literal, a comment or a line somewhere.
PIECES = (
    *("\n", "\r", "\0", "\t", "\x1b[2J", "\x85", "\x9b", "\u2028", "\u202e", "\ud800", "\ufffe", "\U0001f600", "é"),
    *("'", '"', "\\", "`", "$(touch PWNED)", "${{ secrets.KEY }}", "*/", "//", "#", "%", ";", "|", "||", "<b>", "]]>"),
    *("&amp;", "{{", "--", "=", ":", "- ", "??/", '"""', "@NAME@", "@SHAPES:code@", "x", " ", "a b", "_y_", "[l](u)"),
)
BORDER = Border("The target", TargetError, "")
hostile = st.lists(st.sampled_from(PIECES), min_size=1, max_size=8).map("".join) | st.text(max_size=20)
TEMPLATES = ("run.sh", "example.py", "example.c", "README.txt")
TARGET = dataclasses.asdict(load_target("rpi4"))


NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def shown(character: str) -> str:
    """A character by its number, as messages show those that cannot be shown."""
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def octal(text: str) -> str:
    return ast.literal_eval(f"b{text}").decode()


#: What reads each literal back, as its language does.
LITERALS: dict[str, tuple[Callable[[str], str], Callable[[str], str]]] = {
    "shell": (escape.shell_word, lambda text: " ".join(shlex.split(text))),
    "TOML": (escape.toml_string, lambda text: tomllib.loads(f"x = {text}")["x"]),
    "YAML": (escape.yaml_string, lambda text: yaml.safe_load(f"a:\n  x: {text}\n")["a"]["x"]),
    "Python": (escape.python_string, ast.literal_eval),
    "C": (escape.c_string, octal),
    "the assembler": (escape.assembler_string, octal),
    "JSON": (lambda text: escape.json_text(json.dumps(text, ensure_ascii=False)), json.loads),
    "XML's text": (escape.xml_text, lambda text: ElementTree.fromstring(f"<a>{text}</a>").text or ""),
    "XML's attribute": (escape.xml_attribute, lambda text: ElementTree.fromstring(f"<a b={text}/>").get("b", "")),
}


@pytest.mark.parametrize("language", LITERALS)
@given(text=hostile)
def test_a_literal_is_read_back_as_the_text_or_refused(language: str, text: str) -> None:
    write, read = LITERALS[language]
    try:
        literal = write(text)
    except OptionError as error:
        assert not escape.has_control(error.message)
        return
    if language.startswith("XML"):
        text = NOT_XML.sub(lambda match: shown(match[0]), text)
        # In an element XML makes one line break of each kind.
        assert read(literal) in (text, re.sub("\r\n?", "\n", text))
    else:
        assert "\n" not in literal or language == "shell"
        assert read(literal) == text


@given(hostile)
def test_text_in_comments_and_on_terminals_is_one_line_without_escapes(text: str) -> None:
    for write in (escape.one_line, escape.make_comment, escape.c_comment, escape.markdown_text, escape.plot_text):
        written = write(text)
        assert written.isprintable() or not escape.has_control(written)
        assert len(written.splitlines()) <= 1
    assert "*/" not in escape.c_comment(text)
    # How matplotlib tells a formula.
    assert escape.plot_text(text).count("$") == escape.plot_text(text).count("\\$")
    assert not escape.c_comment(text).endswith("\\")
    assert (len(escape.make_comment(text)) - len(escape.make_comment(text).rstrip("\\"))) % 2 == 0
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", escape.printable(text))
    # No cell more, no element of HTML.
    assert not re.search("[|<>]", escape.markdown_text(text))
    assert html.unescape(re.sub(r"\\([\\`*\[\]~#_])", r"\1", escape.markdown_text(text))) in (
        escape.one_line(text),
        html.unescape(escape.one_line(text)),
    )


def manifest_with(text: str) -> Manifest:
    """A manifest that no reader has seen, with a text in every field that a template shows."""
    return dataclasses.replace(
        MANIFEST,
        inputs=(TensorSpec(text, "float32", (1, 3)),),
        outputs=(TensorSpec(text, "float32", (1,)),),
        model={"file": text, "sha256": text},
        target={"name": text, "description": text, "triple": "aarch64-linux-gnu", "features": [text]},
    )


@pytest.mark.parametrize("name", TEMPLATES)
@given(text=hostile, title=hostile)
@settings(max_examples=40)
def test_a_bundles_files_have_the_lines_that_their_template_has(name: str, text: str, title: str) -> None:
    plain = fill(name, "net", [manifest_with("plain")], "1.0")
    filled = fill(name, title, [manifest_with(text)], title)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", filled)
    pairs = list(zip(plain.split("\n"), filled.split("\n"), strict=True))
    changed = [line for before, line in pairs if line != before]
    if name == "README.txt":
        assert len(changed) <= 2
    else:
        assert all(line.startswith("# ") for line in changed)


@given(name=hostile)
@settings(max_examples=40)
def test_a_librarys_name_stays_a_string_in_every_program(name: str) -> None:
    try:
        manifest = dataclasses.replace(manifest_with("plain"), name=name)
        python, c = (fill(each, "net", [manifest], "1.0") for each in ("example.py", "example.c"))
    except OptionError:
        return
    strings = [node.value for node in ast.walk(ast.parse(python)) if isinstance(node, ast.Constant)]
    assert f"{name}.so" in strings
    assert f"tvmbuild_load(&model, {escape.c_string(f'./{name}.so')})" in c


@pytest.mark.subprocess
@pytest.mark.parametrize(
    "description", ["x\ntouch PWNED #", "x\r\ntouch PWNED", "`touch PWNED`\\", "$(touch PWNED)\u2028"]
)
def test_no_description_becomes_a_command_of_run_sh(description: str, tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_text(fill("run.sh", description, [manifest_with(description)], "1.0"))
    done = subprocess.run(["sh", "run.sh", "--help"], cwd=tmp_path, env={**os.environ, "TVMBUILD_EMULATOR": "true"})
    assert done.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["run.sh"]


@given(model=hostile, shape=hostile, source=hostile)
@settings(max_examples=40)
def test_a_projects_files_say_what_they_were_told(
    model: str, shape: str, source: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("project")
    try:
        write_project(folder, model, ["rpi4"], [shape], source=source)
    except TvmbuildError:
        # Nothing, or a part: each file that is there is whole.
        assert all((folder / place).read_text() for place in FILES.values() if (folder / place).exists())
        return
    table = tomllib.loads((folder / "tvmbuild.toml").read_text())
    assert table["build"] == {"shape": [shape]}
    assert table["release"]["models"] == [{"path": model, "shape": [shape]}]
    for place in (".github/workflows/models.yml", ".gitlab-ci.yml"):
        assert source in str(yaml.safe_load((folder / place).read_text())) or source.isprintable() is False
    assert (folder / "Makefile").read_text().count("\n") == len((TOP / "Makefile.in").read_text().splitlines())


TOP = Path(__file__).parents[2] / "tvmbuild/releases/project"


@given(text=hostile)
@settings(max_examples=60)
def test_release_notes_and_junit_hold_any_text(text: str) -> None:
    cell = {
        "name": text,
        "board": text,
        "library_bytes": 1,
        "kernels": 1,
        "fused_kernels": 1,
        "int8_share": 0.0,
        "largest_difference": 0.0,
    }
    bundle = {"file": text, "targets": [text], "bytes": 1}
    page = notes({"version": text, "last_version": text, "cells": [cell], "bundles": [bundle]})
    rows = [line for line in page.split("\n") if line.startswith("| ")]
    assert sorted({row.count("|") for row in rows}) == [4, 9]
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", page)
    output = {"spec": {"name": text}, "relative": 1.0, "tolerance": 0.1, "passed": False}
    suites = ElementTree.fromstring(junit_text([(text, {"outputs": [output], "device": text})]))
    assert [len(suite) for suite in suites] == [1]


@given(key=hostile, host=hostile)
@settings(max_examples=60)
def test_a_unit_of_systemd_has_one_command(key: str, host: str) -> None:
    try:
        unit = Provision("pi@x", load_target("rpi4"), key, Address(host, 9190), tunnel=False).unit()
    except OptionError:
        return
    assert unit.count("\n") == Provision("pi@x", load_target("rpi4"), "k", Address("h", 9190)).unit().count("\n")
    command = next(line for line in unit.split("\n") if line.startswith("ExecStart="))
    words = shlex.split(command.removeprefix("ExecStart=").replace("$$", "$").replace("%%", "%"))
    assert words[2:6] == ["--tracker", str(Address(host, 9190)), "--key", key]


@given(st.sampled_from([key for key in TARGET if not isinstance(TARGET[key], int)]), hostile)
def test_a_target_with_a_hostile_text_is_refused_or_holds_one_plain_line(key: str, text: str) -> None:
    value = [text] if isinstance(TARGET[key], tuple) else text
    try:
        target = BORDER.checked({**TARGET, key: value}, Target, "it")
    except TargetError as error:
        assert not escape.has_control(error.message)
        return
    assert not escape.has_control(text)
    if key not in ("description", "name"):
        assert re.fullmatch("[A-Za-z0-9._+-]*", text)
    assert target.arch in target.triple


def test_a_targets_file_cannot_bring_a_line_break(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "targets/rpi4.toml").read_text()
    path = tmp_path / "evil.toml"
    for line in ('description = "x\\ntouch PWNED #"', 'cpu = "a\\nlibrary b"', 'features = ["neon\\nfeature x"]'):
        key = line.partition(" ")[0]
        path.write_text(re.sub(f"(?m)^{key} = .*$", lambda _: line, text))  # noqa: B023
        with pytest.raises(TargetError, match="has control characters"):
            load_target(str(path))


@given(st.sampled_from(["name", "target", "toolchain", "packages", "dtype"]), hostile)
def test_a_manifest_with_control_characters_where_files_are_made_of_it_is_refused(field: str, text: str) -> None:
    changed: Any = {
        "name": {"name": text},
        "target": {"target": {"name": "rpi4", "description": text}},
        "toolchain": {"toolchain": {"name": text}},
        "packages": {"packages": {text: "1"}},
        "dtype": {"inputs": (TensorSpec("x", text, (1,)),)},
    }[field]
    try:
        # A half of a pair has no form in UTF-8, but one in JSON.
        text_of = dataclasses.replace(MANIFEST, **changed).to_json().encode("utf-8", "backslashreplace").decode()
        read = parse_manifest(text_of, "it")
    except ArtifactError:
        return
    assert not any(map(escape.has_control, (read.name, str(read.target["name"]), *read.packages)))
    assert not any(escape.has_control(str(value)) for value in (*read.target.values(), *read.toolchain.values()))
    assert all(spec.dtype.isalnum() for spec in read.inputs)


@pytest.mark.parametrize(
    "text", ['[release]\nversion = "1\\n2"\n', '[[release.models]]\npath = "\\u001b"\n', '[a]\n"b\\nc" = 1\n']
)
def test_a_project_file_with_control_characters_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "tvmbuild.toml").write_text(text)
    with pytest.raises(OptionError, match="control characters"):
        read_project_file("release", tmp_path)


@pytest.mark.subprocess
@pytest.mark.parametrize(
    "name", ["a b.onnx", "a:b", "a|b", "c$#d", "back\\ slash", "a*b", "a[b]", "a;touch PWNED", "a=b", "a%b", "a\nb"]
)
def test_make_reads_a_depfile_or_it_is_refused(name: str, tmp_path: Path) -> None:
    try:
        rule = depfile_text([Path("out")], [Path(name)])
    except OptionError:
        assert re.search("[;=%\n]", name)
        return
    (tmp_path / name).write_text("")
    (tmp_path / "Makefile").write_text(f"out:\n\ttouch out\n{rule}")
    subprocess.run(["make", "-s"], cwd=tmp_path, check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["Makefile", "out", name])
    (tmp_path / name).write_text("newer")
    os.utime(tmp_path / "out", (1, 1))
    assert subprocess.run(["make", "-q"], cwd=tmp_path).returncode == 1


def test_checksums_have_a_line_a_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(OutputError, match="cannot stand"):
        sums_text({"a\nb": tmp_path / "x"})
