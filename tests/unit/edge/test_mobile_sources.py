"""The phones' programs as far as they can be held to something without their compilers: syntax, names, versions."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import tree_sitter_kotlin
import tree_sitter_swift
import yaml
from classifier.pipeline import Classifier
from tree_sitter import Language, Node, Parser

from edge.bundle import constants

ROOT = Path(__file__).parents[3]
IOS, ANDROID = ROOT / "edge/ios", ROOT / "edge/android"
SWIFT, KOTLIN = Language(tree_sitter_swift.language()), Language(tree_sitter_kotlin.language())
GRAMMARS = {".swift": SWIFT, ".kt": KOTLIN, ".kts": KOTLIN}
SOURCES = sorted(path for folder in (IOS, ANDROID) for path in folder.rglob("*") if path.suffix in GRAMMARS)


def faults(source: bytes, language: Language) -> list[str]:
    """Where the text is not of the language, innermost places only."""

    def search(node: Node) -> Iterator[str]:
        if node.is_error or node.is_missing:
            yield f"line {node.start_point.row + 1}: {node.type}"
        elif node.has_error:
            for child in node.children:
                yield from search(child)

    return list(search(Parser(language).parse(source).root_node))


def test_there_are_sources() -> None:
    assert {path.suffix for path in SOURCES} == set(GRAMMARS)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_every_source_is_of_its_language(path: Path) -> None:
    assert faults(path.read_bytes(), GRAMMARS[path.suffix]) == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_a_lost_bracket_is_noticed(path: Path) -> None:
    source = path.read_bytes()
    last = max(source.rfind(bracket) for bracket in (b"}", b")"))
    assert faults(source[:last] + source[last + 1 :], GRAMMARS[path.suffix])


@pytest.mark.parametrize(
    ("language", "text"),
    [
        (SWIFT, "func answer( -> Int { 42 }"),
        (SWIFT, "struct Picture { let width Int }"),
        (KOTLIN, "fun answer(): Int { val = 42 }"),
        (KOTLIN, "class Picture(val width Int)"),
    ],
)
def test_a_statement_of_no_meaning_is_noticed(language: Language, text: str) -> None:
    assert faults(text.encode(), language)


def test_what_the_programs_read_of_a_bundle_is_in_it(tiny: Classifier) -> None:
    bundle = msgspec.to_builtins(constants(tiny))
    label = bundle["labels"][0]
    names = {*bundle, *bundle["model"], *bundle["input"], *label}

    kotlin = (ANDROID / "classifier-kit/src/main/kotlin/classifier/ModelBundle.kt").read_text()
    read_by_kotlin = set(re.findall(r'\bget\w+\("(\w+)"\)', kotlin))
    swift = (IOS / "ClassifierKit/Sources/ClassifierKit/ModelBundle.swift").read_text()
    stored = re.findall(r"^ +public let (\w+):", swift, re.MULTILINE)
    read_by_swift = {re.sub(r"[A-Z]", lambda letter: "_" + letter[0].lower(), name) for name in stored}

    assert read_by_kotlin <= names
    assert read_by_swift == read_by_kotlin


def test_the_project_files_can_be_read_and_name_what_is_there() -> None:
    project = yaml.safe_load((IOS / "project.yml").read_text())
    assert (IOS / project["packages"]["ClassifierKit"]["path"] / "Package.swift").is_file()
    assert (IOS / project["targets"]["Classifier"]["sources"][0]).is_dir()
    manifest = ET.parse(ANDROID / "app/src/main/AndroidManifest.xml")  # noqa: S314 - our own file
    activity = manifest.find("application/activity")
    assert activity is not None
    name = activity.attrib["{http://schemas.android.com/apk/res/android}name"].removeprefix(".")
    assert (ANDROID / f"app/src/main/kotlin/classifier/app/{name}.kt").is_file()
    modules = re.findall(r'":([\w-]+)"', (ANDROID / "settings.gradle.kts").read_text())
    assert modules
    assert all((ANDROID / module / "build.gradle.kts").is_file() for module in modules)


def test_both_have_the_same_executorch() -> None:
    project = yaml.safe_load((IOS / "project.yml").read_text())
    swift = project["packages"]["executorch"]["branch"].removeprefix("swiftpm-")
    build = (ANDROID / "app/build.gradle.kts").read_text()
    kotlin = re.findall(r'"org\.pytorch:executorch-android:([\d.]+)"', build)
    assert [version.rpartition(".")[0] for version in kotlin] == [swift.rpartition(".")[0]]  # but for the last number
