"""The examples of docs/deploying.md hold what kubectl, systemd and the commands know."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from assessments import cli
from tests.helpers import pages

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = "docs/deploying.md"
MANIFESTS = pages.blocks(PAGE, "yaml", "Examples")
SERVICE, TIMER = pages.blocks(PAGE, "ini", "Examples")
(UPGRADE,) = pages.blocks(PAGE, "sh", "Examples")


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each field of a manifest, with its path."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for name, item in items:
            yield from leaves(item, f"{path}/{name}")
    else:
        yield path, value


def commands(value: Any) -> Iterator[list[str]]:
    """Yield the command lines of ours in a manifest."""
    if isinstance(value, dict):
        if "command" in value:
            yield value["command"]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from commands(item)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
@pytest.mark.parametrize("manifest", MANIFESTS)
def test_kubectl_knows_every_field(manifest: str) -> None:
    """It prints what it has read, without the fields that it does not know."""
    line = ("kubectl", "set", "env", "--local", "-f", "-", "NOTHING=1", "-o", "json")
    done = subprocess.run(line, input=manifest.encode(), capture_output=True, check=False)

    assert done.returncode == 0, done.stderr
    given, read = yaml.safe_load(manifest), json.loads(done.stdout or "{}")
    assert dict(leaves(given)).items() <= dict(leaves(read)).items()


def test_every_command_line_is_one_of_the_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its options exist, and the URL comes from the environment."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://host/database")
    (line,) = [each for each in SERVICE.splitlines() if each.startswith("ExecStart=")]
    found = [command for text in MANIFESTS for command in commands(yaml.safe_load(text))]
    found.append(shlex.split(line.partition("=")[2]))

    assert [Path(program).name for program, *_ in found] == ["assessments"] * 4
    names = [cli._parser().parse_args(options).command for _, *options in found]  # noqa: SLF001
    assert sorted(names) == ["check", "migrate", "purge", "purge"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_knows_the_units(tmp_path: Path) -> None:
    """Where the command is on this machine, it has nothing to say."""
    command = Path(sys.executable).with_name("assessments")
    units = {
        "assessments-purge.service": SERVICE.replace("/opt/service/bin/assessments", str(command)),
        "assessments-purge.timer": TIMER,
    }
    for name, text in units.items():
        (tmp_path / name).write_text(text, encoding="utf-8")

    line = ["systemd-analyze", "verify", *(str(tmp_path / name) for name in units)]
    done = subprocess.run(line, capture_output=True, check=False)

    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(("waited", "calls"), [(0, 4), (1, 2)])
def test_the_new_code_is_rolled_out_after_the_migrations_only(
    tmp_path: Path, waited: int, calls: int
) -> None:
    """A job that does not complete ends the script before the deployment is changed."""
    log, kubectl = tmp_path / "log", tmp_path / "kubectl"
    kubectl.write_text(f'#!/bin/sh\necho "$@" >> {log}\n[ "$1" != wait ] || exit {waited}\n')
    kubectl.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}

    done = subprocess.run(["/bin/sh", "-c", UPGRADE], env=environment, check=False)

    said = [line.split()[0] for line in log.read_text(encoding="utf-8").splitlines()]
    assert said == ["apply", "wait", "set", "rollout"][:calls]
    assert done.returncode == waited
    job, deployment = (yaml.safe_load(text) for text in MANIFESTS[:2])
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert f"job/{job['metadata']['name']} " in UPGRADE
    assert f"{container['name']}={container['image']}\n" in UPGRADE
