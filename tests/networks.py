"""What tests of several folders do to networks."""

from torch import nn

from carso.training.loop import Stage


def without_batch_norm(stage: Stage) -> Stage:
    """The stage, in whose network no image knows of another."""
    for module in list(stage.module.modules()):
        for name, layer in module.named_children():
            if isinstance(layer, nn.BatchNorm1d):
                setattr(module, name, nn.Identity())
    return stage
