"""A small defence, and a hub that keeps what it is handed in a folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from carso.defence import CARSO
from carso.nn import MLP
from carso.purifier import Purifier


@pytest.fixture
def defence() -> CARSO:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CARSO(MLP((1, 8, 8), (12,), 5).eval(), Purifier((1, 8, 8), 17, latent=4), samples=20)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a hub without a network: repositories are folders in it."""
    hugging = pytest.importorskip("huggingface_hub")
    from huggingface_hub import hub_mixin

    held = tmp_path / "hub"

    class Api:
        def __init__(self, token: str | None = None) -> None:
            self.token = token

        def create_repo(self, repo_id: str, **options: object) -> SimpleNamespace:
            (held / repo_id).mkdir(parents=True, exist_ok=True)
            return SimpleNamespace(repo_id=repo_id)

        def upload_folder(self, repo_id: str, folder_path: Path, **options: object) -> str:
            shutil.copytree(folder_path, held / repo_id, dirs_exist_ok=True)
            return f"hub/{repo_id}"

    def download(repo_id: str, **options: object) -> str:
        if not (held / repo_id).is_dir():
            raise OSError(f"no repository {repo_id}\nand a second line")
        return str(held / repo_id)

    monkeypatch.setattr(hub_mixin, "HfApi", Api)
    monkeypatch.setattr(hub_mixin, "hf_hub_download", lambda **options: download(options["repo_id"]) and None)
    monkeypatch.setattr(hugging, "snapshot_download", download)
    return held
