"""Install the least versions that pyproject.toml names, and run the suite on them.

    python benchmarks/runs/least_versions.py [--env DIR] [pytest options, -k among them]

Each `name>=version` of the core and of every extra is installed as `name==version`; what they need in turn is taken as
it comes. Deprecations are let pass: the least typer asks the newest click for names that click is about to drop. The
test client of the least starlette asks for httpx, that of the newest for httpx2, so that httpx comes, too.

torch is the one of constraints.txt, so that its own bounds are not tried here: of older versions the registry has no
Linux build that does without a GPU's libraries. They were read instead: mypy, given the declarations of torch 2.6 and
2.8, misses one name that `carso` uses, `check_guards` in the ONNX export, and given those of 2.9 none.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]


def least(requirements: list[str]) -> list[str]:
    """Each `name>=version` as `name==version`, torch left to the constraints."""
    bounds = (re.fullmatch(r"([\w.-]+)>=([\w.]+)", requirement) for requirement in requirements)
    return [f"{bound[1]}=={bound[2]}" for bound in bounds if bound and bound[1] != "torch"]


def pins() -> list[str]:
    """The least versions of everything that pyproject.toml names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    return least([*project["dependencies"], *(each for named in extras.values() for each in named)])


def install(env: Path) -> Path:
    """Make the environment, unless it is there, and give its Python."""
    python = env / "bin" / "python"
    if not python.exists():
        venv.create(env, with_pip=True)
    constraints = env / "constraints.txt"
    torch = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    constraints.write_text("\n".join([torch, *pins()]) + "\n", encoding="utf-8")
    pip: list[str | Path] = [
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "-c",
        constraints,
    ]
    subprocess.run([*pip, "-e", f"{ROOT}[audit,dev]"], check=True)
    subprocess.run([*pip, "httpx"], check=True)
    subprocess.run([*pip, "--no-deps", "torchattacks==3.5.1"], check=True)
    return python


def main(env: Path, options: list[str]) -> int:
    suite: list[str | Path] = [install(env), "-m", "pytest", "-W", "ignore::DeprecationWarning", *options]
    return subprocess.run(suite, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", type=Path, help="where the environment is made, or is already")
    given, rest = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(main(given.env or Path(folder) / "env", rest))
