"""Where this machine's pip and apt get packages from, for builds of images, which are to get them from there too.

All of it is mounted while a build's commands run, so that nothing of the machine enters an image.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

MOUNTED: Final = "/run/host-packages"  # in the container of a build

# Of pip's settings, the ones that say where packages come from.
_PIP: Final = {"index-url", "extra-index-url", "find-links", "no-index", "trusted-host", "proxy", "cert", "client-cert"}
_PIP_MORE: Final = {"constraint", "timeout", "default-timeout", "retries"}
_PIP_SECTIONS: Final = ("global", "install", ":env:")  # a later one is stronger
_APT: Final = re.compile(r"Acquire::(https?|Check-|Languages|Retries|ForceIPv)", re.IGNORECASE)


def mounts(folder: Path, release: str) -> dict[str, str]:
    """Write the settings for a build into a folder.

    Args:
        folder: to write into; it is made.
        release: Debian's, whose packages are to be installed.

    Returns:
        What is to be mounted: a path in the container, and the path here.
    """
    folder.mkdir(exist_ok=True)
    mirror = debian_mirror()
    assert mirror, "apt has no source of Debian"
    pip_conf, found = pip_configuration(_output(sys.executable, "-m", "pip", "config", "list"))
    written = {
        "/etc/pip.conf": pip_conf,
        "/etc/apt/sources.list": f"deb {mirror} {release} main\n",
        "/etc/apt/apt.conf.d/99host": apt_configuration(_output("apt-config", "dump", "Acquire")),
    }
    for target, text in written.items():
        path = folder / Path(target).name
        path.touch(mode=0o600)  # an index's address may have a password in it
        path.write_text(text)
        found[target] = str(path)
    return found


def debian_mirror() -> str | None:
    """The address of the first source of Debian's own packages; None if apt has none, or there is no apt."""
    try:
        described = _output("apt-get", "indextargets", "--format", "$(COMPONENT) $(ORIGIN) $(REPO_URI)")
    except FileNotFoundError:
        return None
    rows = [line.split() for line in described.splitlines()]
    return next((row[2] for row in rows if row[:2] == ["main", "Debian"]), None)


def pip_configuration(listed: str) -> tuple[str, dict[str, str]]:
    """A pip.conf for a build, and what is to be mounted for it.

    Args:
        listed: what `pip config list` says.
    """
    settings: dict[str, str] = {}
    rows = [line.partition("=") for line in listed.splitlines()]
    for section in _PIP_SECTIONS:
        for key, _, value in rows:
            name = key.rpartition(".")[2]
            if key.startswith(f"{section}.") and name in _PIP | _PIP_MORE:
                settings[name] = str(ast.literal_eval(value))
    found: dict[str, str] = {}
    lines = [f"{name} = {' '.join(_moved(word, found) for word in value.split())}" for name, value in settings.items()]
    return "\n".join(["[global]", *lines]) + "\n", found


def _moved(word: str, found: dict[str, str]) -> str:
    """A word of a setting, and if it is a path of this machine, the one at which that will be mounted."""
    scheme, path = ("file://", word.removeprefix("file://")) if word.startswith("file://") else ("", word)
    if not path.startswith("/"):
        return word
    here, below = Path(path), ""
    if here.name == "simple":  # an index's pages point at files beside it
        here, below = here.parent, "/simple"
    target = next((target for target, mounted in found.items() if mounted == str(here)), f"{MOUNTED}/{len(found)}")
    found[target] = str(here)
    return f"{scheme}{target}{below}"


def apt_configuration(dumped: str) -> str:
    """Of what `apt-config dump` says, how to fetch: proxies, patience, languages."""
    return "".join(f"{line}\n" for line in dumped.splitlines() if _APT.match(line))


def volumes(mounted: Mapping[str, str]) -> list[str]:
    """The options that mount it, for what is there."""
    return [f"--volume={here}:{target}:ro" for target, here in mounted.items() if Path(here).exists()]


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
