"""The commands and the code of docs/your-own-classifier.md, run on pictures made here, only shortened."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tests.efforts import shorten
from torch import nn
from torch.utils.data import TensorDataset
from typer.testing import CliRunner

from carso.commands import cli
from carso.correction import CorrectivePurifier
from carso.hardening import proposal

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "your-own-classifier.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


COMMANDS = [shlex.split(line) for block in blocks("sh") for line in block.splitlines()]


def picture(channel: int, generator: torch.Generator) -> Image.Image:
    pixels = 0.4 * torch.rand(16, 16, 3, generator=generator)
    pixels[:, :, channel] += 0.3
    return Image.fromarray((255 * pixels).byte().numpy())


def trained(build: nn.Module) -> nn.Module:
    """The page's network, taught the brightest channel."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for layer in (layer for layer in build if hasattr(layer, "reset_parameters")):
            layer.reset_parameters()
        optimiser = torch.optim.Adam(build.parameters(), 0.01)
        for _ in range(60):
            labels = torch.randint(3, (32,))
            images = 0.4 * torch.rand(32, 3, 16, 16)
            images[torch.arange(32), labels] += 0.3
            loss = nn.functional.cross_entropy(build(images), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return build


@pytest.mark.slow
def test_the_commands_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(proposal, "EPOCHS", (1, 2))
    shorten(monkeypatch, "quick", "standard")
    generator = torch.Generator().manual_seed(0)
    for channel, name in enumerate("rgb"):
        for index in range(12):
            path = tmp_path / "pictures" / name / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture(2 - channel, generator).save(path)
    picture(0, generator).save("picture.png")
    code, *_ = blocks("python")
    untaught = code.replace('    network.load_state_dict(torch.load("my_network.pt", weights_only=True))\n', "")
    names: dict[str, object] = {}
    exec(untaught, names)
    torch.save(trained(names["build"]()).state_dict(), "my_network.pt")
    Path("my_models.py").write_text(code)
    assert [command[1] for command in COMMANDS] == ["harden", "audit", "export", "predict"]
    for _, *arguments in COMMANDS:
        longer = ["600" if argument == "30" else argument for argument in arguments]
        answer = CliRunner().invoke(cli.app, longer)
        assert answer.exit_code in (0, 3), (longer, answer.output, answer.exception)
    files = set(re.findall(r"`([\w./-]+\.(?:json|yaml|safetensors|html|md|onnx))`(?:,| \|)", TEXT.split("| file |")[1]))
    assert len(files) >= 8
    assert all((Path("out/mine") / file).exists() for file in files)


def test_data_sets_of_torch_take_the_place_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (recipe,), (*_, code) = blocks("yaml"), blocks("python")
    Path("mine.yaml").write_text(recipe.replace("epochs: 30", "epochs: 1").replace("steps: 10", "steps: 1"))
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 6), nn.ReLU(), nn.Linear(6, 3))
    some = TensorDataset(torch.rand(12, 3, 8, 8), torch.arange(12) % 3)
    names: dict[str, Any] = {"mine": some, "others": some, "network": network}
    exec(code, names)
    assert isinstance(names["defence"].purifier, CorrectivePurifier)
    assert names["train"].labels is not None


def test_every_link_leads_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", TEXT)
    assert targets
    assert not [target for target in targets if not (ROOT / "docs" / target).exists()]
