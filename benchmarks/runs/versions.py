"""Build the wheel and try it on every Python that pyproject.toml names and that is here, outside of the checkout.

    python benchmarks/runs/versions.py [--envs DIR] [--out FILE]

Each Python gets an empty environment with the wheel, the requirements of the core and nothing else; in an empty folder
it runs the README's Python, `carso --help`, and what `make run` runs on few images. Interpreters are looked for by name
(`python3.12`) and among pyenv's; one that is not here is said so, and is no failure. The least versions of what
pyproject.toml requires are tried by `least_versions.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
OUT = ROOT / "benchmarks" / "results" / "versions.json"
SOURCES = ("pyproject.toml", "README.md", "LICENSE")
SHOWN = ("torch", "numpy", "pillow", "safetensors", "pydantic", "typer", "jaxtyping", "carso")
VERSION = "import platform; print(platform.python_version())"
PACKAGES = f"import json; from importlib.metadata import version; print(json.dumps({{n: version(n) for n in {SHOWN}}}))"


def promised() -> list[str]:
    """The versions of Python that pyproject.toml names."""
    named = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["classifiers"]
    return [found[1] for each in named if (found := re.search(r":: (3\.\d+)$", each))]


def interpreter(version: str) -> Path | None:
    """A Python of this version that runs; None if there is none here."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    named = shutil.which(f"python{version}")
    candidates = [*([Path(named)] if named else []), *sorted(pyenv.glob(f"{version}.*/bin/python"))]
    return next((each for each in candidates if answers(each).startswith(f"{version}.")), None)


def answers(python: Path) -> str:
    return subprocess.run([python, "-c", VERSION], capture_output=True, text=True, check=False).stdout


def wheel(place: Path) -> Path:
    """Build the wheel from a copy of the sources, so that no earlier build is packed along."""
    copy = place / "copy"
    shutil.copytree(ROOT / "src" / "carso", copy / "src" / "carso", ignore=shutil.ignore_patterns("__pycache__"))
    for name in SOURCES:
        shutil.copy(ROOT / name, copy)
    pip(Path(sys.executable), "wheel", "--no-deps", "-w", place, copy)
    return next(place.glob("*.whl"))


def environment(python: Path, folder: Path, built: Path) -> Path:
    """An environment of this Python with the wheel, made unless it is there; gives its Python."""
    made = folder / "bin" / "python"
    if not made.exists():
        subprocess.run([python, "-m", "venv", folder], check=True)
    pip(made, "install", "-c", ROOT / "constraints.txt", built)
    pip(made, "install", "--force-reinstall", "--no-deps", built)
    return made


def pip(python: Path, *arguments: str | Path) -> None:
    outside(Path.cwd(), python, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments)


def outside(folder: Path, *line: str | Path) -> str:
    """What a command prints that runs in a folder and sees no sources of ours."""
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(line, cwd=folder, env=bare, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.stderr.write(done.stderr)
        done.check_returncode()
    return done.stdout


def trials(python: Path) -> dict[str, list[str | Path]]:
    """What is run, by name."""
    code = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    run = ["-m", "carso", "reproduce", "thesis", "--pretrained", "--test-images", "20", "--out", "run"]
    return {
        "carso --help": [python.with_name("carso"), "--help"],
        "the README's Python": [python, "-W", "error", "-c", "\n".join(code)],
        "make run, on 20 images": [python, *run],
    }


def tried(python: Path, folder: Path) -> dict[str, float | str]:
    """Seconds that each trial took, or why it failed."""
    found: dict[str, float | str] = {}
    for name, line in trials(python).items():
        begun = time.monotonic()
        try:
            outside(folder, *line)
            found[name] = round(time.monotonic() - begun, 1)
        except subprocess.CalledProcessError as error:
            found[name] = (error.stderr.strip().splitlines() or ["no word"])[-1]
    return found


def main(envs: Path, place: Path) -> dict[str, Any]:
    """Every version's trials and packages; None for those that are not here."""
    built = wheel(place)
    found: dict[str, Any] = {}
    for version in promised():
        python = interpreter(version)
        if python is None:
            print(f"Python {version}: not here, not tried")
            found[version] = None
            continue
        made = environment(python, envs / version, built)
        folder = Path(tempfile.mkdtemp(dir=place))
        packages = json.loads(outside(folder, made, "-c", PACKAGES))
        found[version] = {"python": answers(python).strip(), "tried": tried(made, folder), "packages": packages}
        print(f"Python {version}: {found[version]}")
    return {"wheel": built.name, "versions": found}


def failed(found: dict[str, Any]) -> bool:
    versions = [each for each in found["versions"].values() if each]
    return any(isinstance(result, str) for each in versions for result in each["tried"].values())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", type=Path, help="where the environments are made, or are already")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = main(given.envs or Path(folder) / "envs", Path(folder))
    given.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    sys.exit(failed(result))
