"""The matrix: each Python with the newest Django it runs. `nox` tests with what is found here."""

import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import nox

# As `make test` has them. Real mail servers and the browser do not depend on these versions, nor
# does what is marked `once`: it reads our source, measures, or proves what hangs on a third party
# (pytest, the libraries behind an OAuth 2 recipe), or on what other tests show with each version.
WORKERS = ("-n", "auto", "--maxprocesses", "4", "--dist", "worksteal")
SELECTED = ("-m", "not interop and not browser and not once")
MATRIX = [("3.11", "5.2"), ("3.12", "6.0"), ("3.13", "6.1")]
PROJECT = nox.project.load_toml("pyproject.toml")

nox.options.default_venv_backend = "venv"
nox.options.reuse_venv = "yes"


def interpreter(version: str) -> str | None:
    """Return a Python that runs and is of this version, from the PATH or from pyenv."""
    name = f"python{version}"
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    installed = sorted(pyenv.glob(f"versions/{version}.*/bin/python"))
    candidates = [shutil.which(name), *map(str, reversed(installed))]
    return next((each for each in candidates if each and runs(each)), None)


def runs(python: str) -> bool:
    """Say whether it does; in the PATH may be a shim of pyenv for a version not selected."""
    return subprocess.run([python, "-c", ""], check=False, capture_output=True).returncode == 0


def add_session(version: str, django: str) -> None:
    tested = os.environ.get("TESTED") == f"{version} {django}"
    python = None if tested else interpreter(version)
    title = f"matrix: python{version} × Django {django}"

    def run(session: nox.Session) -> None:
        if tested:
            print(f"{title}: the versions that `make test` runs with", flush=True)
            session.skip("tested already")
        if python is None:
            print(f"{title}: not found here: skipped", flush=True)
            session.skip(f"there is no python{version}")
        session.run_install(
            *(sys.executable, "-m", "pip", "--python", session.virtualenv.location, "install"),
            "--editable",
            ".[django,flask,scram,dkim,testing]",
            f"django=={django}.*",
            *nox.project.dependency_groups(PROJECT, "test"),
            external=True,
        )
        report = Path(session.create_tmp()) / "report.xml"
        # What the property-based tests try is tried with each version anew.
        quick = {"HYPOTHESIS_PROFILE": "quick"}
        tests = session.posargs or WORKERS + SELECTED
        if not session.run("pytest", f"--junit-xml={report}", *tests, env=quick):
            return  # nox was told to install only
        suite = ET.parse(report).getroot().find("testsuite")
        count = {name: int(suite.get(name)) for name in ("tests", "skipped")}
        passed, skipped = count["tests"] - count["skipped"], count["skipped"]
        print(f"{title}: {passed} passed, {skipped} skipped", flush=True)

    run.__doc__ = f"Run the tests with Python {version} and Django {django}."
    # One pip, that of the environment which nox runs in, serves all of them.
    name, params = f"python{version}-django{django}", ["--without-pip"]
    nox.session(run, python=python or False, name=name, venv_params=params)


for version, django in MATRIX:
    add_session(version, django)
