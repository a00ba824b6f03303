"""Install the least versions that pyproject.toml names, and run the suite on them.

    python benchmarks/runs/least_versions.py [--env DIR] [pytest arguments]

Requirements of the core and of the extras `demo` and `export` are pinned to their lower bounds; those of `dev` are
taken as they come. torch is the one of constraints.txt: of older ones no build without a GPU is to be had everywhere,
so that its own lower bound is not tried here.
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
EXTRAS = ("demo", "export")


def least(requirements: list[str]) -> list[str]:
    """Each `name>=version` as `name==version`, torch left to the constraints."""
    bounds = (re.fullmatch(r"([\w.-]+)>=([\w.]+)", requirement) for requirement in requirements)
    return [f"{bound[1]}=={bound[2]}" for bound in bounds if bound and bound[1] != "torch"]


def pins() -> list[str]:
    """The least versions of everything that users install."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    return least([*project["dependencies"], *(each for name in EXTRAS for each in extras[name])])


def main(env: Path, arguments: list[str]) -> int:
    python = env / "bin" / "python"
    if not python.exists():
        venv.create(env, with_pip=True)
    constraints = env / "constraints.txt"
    torch = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    constraints.write_text("\n".join([torch, *pins()]) + "\n", encoding="utf-8")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", constraints]
    subprocess.run([*pip, "-e", f"{ROOT}[dev]"], check=True)
    subprocess.run([*pip, "--no-deps", "torchattacks==3.5.1"], check=True)
    return subprocess.run([python, "-m", "pytest", *arguments], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", type=Path, help="where the environment is made, or is already")
    given, rest = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(main(given.env or Path(folder) / "env", rest))
