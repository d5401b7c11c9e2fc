"""When the bootstrap script works and when it does not need to. The programs it calls write down their arguments."""

import os
import shutil
import subprocess
import sys

import pytest

from deploy.services import ROOT

UV = 'echo "uv $*" >> "$PWD/calls"; if [ "$1" = --version ]; then echo "uv 0.13.9"; fi'
PYTHON = f'exec {sys.executable} "$@"'


def program(path, body):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{body}\n")
    path.chmod(0o755)


@pytest.fixture
def project(tmp_path):
    """A project with a finished environment; `.run()` bootstraps it and returns what uv was asked to do."""
    (tmp_path / "deploy").mkdir()
    shutil.copy(ROOT / "deploy" / "bootstrap.sh", tmp_path / "deploy")
    (tmp_path / "requirements.lock").write_text("a==1\n")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    program(tmp_path / ".venv" / "bin" / "python", PYTHON)
    program(tmp_path / ".venv" / "bin" / "uv", UV)

    class Project:
        folder = tmp_path

        def run(self, path=None, code=0, arguments=()):
            (tmp_path / "calls").unlink(missing_ok=True)
            env = {**os.environ, "PATH": path or os.environ["PATH"]}
            env.pop("PYTHON", None)
            command = ["/bin/bash", "deploy/bootstrap.sh", *arguments]
            done = subprocess.run(
                command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False
            )
            assert done.returncode == code, done.stderr
            self.said = done.stderr
            calls = tmp_path / "calls"
            lines = calls.read_text().splitlines() if calls.exists() else []
            return [line for line in lines if "--version" not in line]

    return Project()


def test_the_lock_is_installed_with_its_hashes_then_the_project(project):
    locked, own = project.run()
    assert {"--require-hashes", "--no-deps", "--compile-bytecode", "requirements.lock"} <= set(locked.split())
    assert own.endswith("--no-deps -e .")


def test_a_second_run_does_nothing(project):
    project.run()
    assert project.run() == []


@pytest.mark.parametrize("file", ["requirements.lock", "pyproject.toml"])
def test_a_change_is_installed(project, file):
    project.run()
    (project.folder / file).write_text("b==2\n")
    assert len(project.run()) == 2
    assert project.run() == []


def test_a_failed_installation_is_tried_again(project):
    program(project.folder / ".venv" / "bin" / "uv", UV + '; [ "$1" = --version ]')
    project.run(code=1)
    program(project.folder / ".venv" / "bin" / "uv", UV)
    assert len(project.run()) == 2


def test_no_suitable_python_is_said_with_what_is_needed(project):
    shutil.rmtree(project.folder / ".venv")
    tools = project.folder / "tools"
    tools.mkdir()
    for name in ("dirname", "cat", "sha256sum", "cut", "id"):
        (tools / name).symlink_to(shutil.which(name))
    program(tools / "python3", 'if [ "$1" = --version ]; then echo "Python 3.9.2"; else exit 1; fi')
    program(tools / "python3.11", "echo 'shim: not installed' >&2; exit 127")
    project.run(path=str(tools), code=2)
    assert "Python 3.11 or 3.12 is needed" in project.said
    assert "Python 3.9.2" in project.said


def test_a_missing_browser_is_said_loudly_and_is_no_failure(project):
    tools = project.folder / "tools"
    tools.mkdir()
    for name in ("dirname", "cat", "sha256sum", "cut", "id", "rm", "uname"):
        (tools / name).symlink_to(shutil.which(name))
    project.run(path=str(tools), arguments=["--dev"])
    assert "NO CHROMIUM" in project.said


def test_the_lock_holds_for_other_processors_too():
    """Some packages are there for Linux on x86-64 alone: on ARM the rest is installed, and does without."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    only = ("daal==", "tbb==", "tcmlib==", "scikit-learn-intelex==", "pgpq==")
    pinned = [line for line in lines if line.startswith(only)]
    assert len(pinned) == len(only)
    assert all(" ; " in line and "platform_machine == 'x86_64'" in line for line in pinned)
