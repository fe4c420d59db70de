from pathlib import Path

import pytest

from scripts.console import UserError
from scripts.torchserve import java
from scripts.torchserve.java import OLDEST, bundled_java_home, find_java_home, java_version

VERSIONS = {
    8: 'java version "1.8.0_392"',
    11: 'openjdk version "11.0.21" 2023-10-17',
    17: 'Picked up JAVA_TOOL_OPTIONS: -Xmx1g\nopenjdk version "17.0.9" 2023-10-17',
    25: 'openjdk version "25" 2025-09-16',
}


def java_home(folder: Path, major: int) -> Path:
    """A folder that says it is a JDK of that version."""
    program = folder / f"jdk-{major}" / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{VERSIONS[major]}\nEND\n")
    program.chmod(0o755)
    return program.parent.parent


@pytest.mark.parametrize(("major", "seen"), [(8, 1), (11, 11), (17, 17), (25, 25)])
def test_the_version_is_what_java_says(major: int, seen: int, tmp_path: Path) -> None:
    assert java_version(java_home(tmp_path, major)) == seen


@pytest.mark.parametrize(("said", "seen"), [("17.0.15", 17), ("25.0.2", 25), ("1.8.0_392", 1)])
def test_the_file_of_a_jdk_says_its_version_without_a_start_of_java(said: str, seen: int, tmp_path: Path) -> None:
    home = java_home(tmp_path, 11)
    (home / "release").write_text(f'JAVA_RUNTIME_VERSION="11"\nJAVA_VERSION="{said}"\n')
    assert java_version(home) == seen
    (home / "bin" / "java").unlink()
    assert java_version(home) == 0


def test_a_folder_without_a_java_that_runs_has_version_none(tmp_path: Path) -> None:
    assert java_version(tmp_path / "missing") == 0
    (java_home(tmp_path, 17) / "bin" / "java").write_text("#!/bin/sh\nexit 1\n")
    assert java_version(tmp_path / "jdk-17") == 0


@pytest.mark.parametrize(
    ("in_java_home", "on_path", "bundled", "chosen"),
    [
        (17, 25, 25, "JAVA_HOME"),
        (11, 17, 25, "PATH"),
        (None, 25, 17, "PATH"),
        (8, 11, 25, "bundled"),
        (None, None, 17, "bundled"),
        (25, None, None, "JAVA_HOME"),
    ],
)
def test_the_machines_java_comes_first_if_it_is_recent_enough(
    in_java_home: int | None,
    on_path: int | None,
    bundled: int | None,
    chosen: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    homes = set_up(tmp_path, monkeypatch, in_java_home, on_path, bundled)
    assert find_java_home() == homes[chosen]


@pytest.mark.parametrize("majors", [(None, None, None), (8, 11, None), (11, None, 11)])
def test_no_recent_java_is_said_with_what_to_do(
    majors: tuple[int | None, int | None, int | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up(tmp_path, monkeypatch, *majors)
    with pytest.raises(UserError, match=r"no Java 17 or later; `make setup` installs one, or set JAVA_HOME"):
        find_java_home()


def set_up(
    folder: Path, monkeypatch: pytest.MonkeyPatch, in_java_home: int | None, on_path: int | None, bundled: int | None
) -> dict[str, Path]:
    """A machine with Java, or none, in the three places."""
    majors = {"JAVA_HOME": in_java_home, "PATH": on_path, "bundled": bundled}
    homes = {place: java_home(folder / place, major) for place, major in majors.items() if major}
    links = folder / "usr-bin"  # as on Debian, what is on the path is a link
    links.mkdir()
    if on_path:
        (links / "java").symlink_to(homes["PATH"] / "bin" / "java")
    for program in ("cat", "sh"):
        (links / program).symlink_to(Path("/bin") / program)
    monkeypatch.setenv("PATH", str(links))
    monkeypatch.setenv("JAVA_HOME", str(homes.get("JAVA_HOME", "")))
    monkeypatch.setattr(java, "bundled_java_home", lambda: homes.get("bundled"))
    return homes


def test_the_bundled_java_is_there_and_runs() -> None:
    home = bundled_java_home()
    assert home is not None
    assert java_version(home) >= OLDEST
