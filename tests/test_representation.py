import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from carso.errors import ModelError
from carso.nn import MLP
from carso.representation import Representation, default_layers


class Convolutional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 3, 3)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(3 * 26 * 26, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.relu(self.convolution(images)).flatten(1))


def test_the_thesis_classifier_has_290_neurons() -> None:
    assert Representation(MLP()).sizes(torch.zeros(1, 1, 28, 28)) == {"mish1": 200, "mish2": 80, "output": 10}


def test_activations_are_those_of_the_layers_in_the_order_given() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).eval()
    images = torch.rand(5, 1, 2, 2)
    logits, representations = Representation(model, ["output", "2", "1"])(images)
    linear = model[1](images.flatten(1))
    expected = torch.cat([model[3](linear.tanh()), linear.tanh(), linear], dim=1)
    torch.testing.assert_close(representations, expected)
    torch.testing.assert_close(logits, model(images))


def test_the_image_itself_may_be_part() -> None:
    images = torch.rand(2, 1, 28, 28)
    _, representations = Representation(MLP(), ["mish2", "input"])(images)
    assert torch.equal(representations[:, 80:], images.flatten(1))


def test_the_image_is_heard_before_the_classifier_writes_over_it() -> None:
    class Shifting(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.sub_(0.5).flatten(1)[:, :10]

    images = torch.rand(2, 1, 28, 28)
    before = images.clone()
    _, representations = Representation(Shifting(), ["input"])(images)
    assert torch.equal(representations, before.flatten(1))


def test_convolutional_outputs_are_flattened_as_they_were_before_an_in_place_operation() -> None:
    model = Convolutional()
    images = torch.rand(2, 1, 28, 28)
    _, representations = Representation(model, ["convolution", "relu"])(images)
    before = model.convolution(images)
    torch.testing.assert_close(representations, torch.cat([before.flatten(1), before.relu().flatten(1)], dim=1))


def test_a_layer_that_runs_twice_counts_twice() -> None:
    relu = nn.ReLU()
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), relu, nn.Linear(3, 3), relu, nn.Linear(3, 2))
    assert Representation(model, ["2"]).sizes(torch.rand(1, 1, 2, 2)) == {"2": 6}


def test_the_model_is_left_as_it_was() -> None:
    model = MLP().train()
    model.dropout1.eval()
    model.linear1.weight.requires_grad_(False)
    before = [(m.training, len(m._forward_hooks)) for m in model.modules()]
    statistics = model.norm1.running_mean.clone()
    Representation(model)(torch.rand(4, 1, 28, 28))
    with pytest.raises(RuntimeError):
        Representation(model)(torch.rand(4, 1, 5, 5))
    assert [(m.training, len(m._forward_hooks)) for m in model.modules()] == before
    assert not model.linear1.weight.requires_grad
    assert model.linear2.weight.requires_grad
    assert torch.equal(statistics, model.norm1.running_mean)


def test_gradients_reach_the_images() -> None:
    images = torch.rand(2, 1, 28, 28, requires_grad=True)
    Representation(MLP())(images)[1].sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


def test_threads_get_their_own_activations() -> None:
    model = MLP()
    batches = [torch.rand(3, 1, 28, 28) for _ in range(16)]
    expected = [Representation(model)(batch)[1] for batch in batches]
    shared = Representation(model.train())
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda batch: shared(batch)[1].detach(), batches))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)
    assert all(m.training for m in model.modules())


def test_default_layers_without_activation_modules_are_the_affine_ones() -> None:
    assert default_layers(nn.Sequential(nn.Flatten(), nn.Linear(4, 2))) == ("1", "output")


@pytest.mark.parametrize(
    ("layers", "message"),
    [(["mish3"], "mish1"), ([], "at least one"), (["mish1", "mish1"], "twice"), (["Mish2"], "mish2")],
)
def test_bad_layers_are_named(layers: list[str], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Representation(MLP(), layers)


def test_a_layer_that_does_not_run_is_named() -> None:
    model = Convolutional()
    model.unused = nn.ReLU()
    with pytest.raises(ModelError, match="unused"):
        Representation(model)(torch.rand(1, 1, 28, 28))


def test_compiled_classifiers_are_heard_as_they_were_before() -> None:
    images, plain = torch.rand(3, 1, 28, 28), MLP().eval()
    whole, within = torch.compile(plain, backend="eager"), nn.Sequential(torch.compile(plain, backend="eager"))
    in_place = copy.deepcopy(plain)
    in_place.compile(backend="eager")
    logits, expected = Representation(plain)(images)
    for classifier, prefix in ((whole, ""), (within, "0."), (in_place, "")):
        with torch.no_grad():
            classifier(images)  # hooks that come after the first call are not compiled
        representation = Representation(classifier)
        assert representation.layers == (f"{prefix}mish1", f"{prefix}mish2", "output")
        found = representation(images)
        assert torch.equal(found[0], logits)
        assert torch.equal(found[1], expected)


def scripted() -> nn.Module:
    return torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)))


def exported() -> nn.Module:
    batch = ({0: torch.export.Dim("batch")},)
    return torch.export.export(MLP().eval(), (torch.rand(3, 1, 28, 28),), dynamic_shapes=batch).module()


class Functional(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :10]


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is")
@pytest.mark.parametrize("build", [scripted, exported, Functional])
def test_a_classifier_that_hides_its_layers_says_so(build: Callable[[], nn.Module]) -> None:
    classifier, images = build(), torch.rand(2, 1, 28, 28)
    with pytest.raises(ModelError, match="give the module that it was made from"):
        Representation(classifier)
    logits, representations = Representation(classifier, ["input", "output"])(images)
    assert torch.equal(representations, torch.cat([images.flatten(1), logits], dim=1))


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is")
def test_a_layer_of_a_scripted_classifier_cannot_be_heard() -> None:
    with pytest.raises(ModelError, match="layer '1' was not heard"):
        Representation(scripted(), ["1"])(torch.rand(2, 1, 28, 28))


class Tokens(nn.Module):
    """Windows of an image, then a sequence whose first dimension is the place, as attention likes them."""

    def __init__(self) -> None:
        super().__init__()
        self.windows, self.sequence, self.total = nn.GELU(), nn.Tanh(), nn.Identity()
        self.head = nn.Linear(784, 10)

    def forward(self, images: Tensor) -> Tensor:
        windows = self.windows(images.view(-1, 4, 196).flatten(0, 1))
        sequence = self.sequence(windows.view(-1, 4, 196).transpose(0, 1))
        self.total(sequence.sum())
        return self.head(sequence.transpose(0, 1).flatten(1))


@pytest.mark.parametrize(
    ("layer", "shape"), [("windows", r"\(12, 196\)"), ("sequence", r"\(4, 3, 196\)"), ("total", r"\(\)")]
)
def test_layers_whose_rows_are_not_the_images_are_named(layer: str, shape: str) -> None:
    with pytest.raises(ModelError, match=f"layer '{layer}' gives {shape} for 3 images: its rows are not the images"):
        Representation(Tokens(), [layer])(torch.rand(3, 1, 28, 28))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_classifier_in_another_dtype_is_read_in_that_of_the_images(dtype: torch.dtype) -> None:
    model, images = MLP().eval(), torch.rand(3, 1, 28, 28)
    logits, expected = Representation(model, ["input", "mish1", "output"])(images)
    found, representations = Representation(model.to(dtype), ["input", "mish1", "output"])(images)
    assert found.dtype == representations.dtype == torch.float32
    torch.testing.assert_close(representations, expected, atol=0.05, rtol=0.05)
    torch.testing.assert_close(found, logits, atol=0.05, rtol=0.05)
    assert torch.equal(representations[:, :784], images.flatten(1))
    _, double = Representation(model, ["mish1"])(images.double())
    assert double.dtype == torch.float64


class Named(nn.Module):
    """A network whose last layer is called output."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.output = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.output(self.hidden(images.flatten(1)).relu())
        return found


def test_a_layer_called_output_is_named_once() -> None:
    assert default_layers(Named()) == ("hidden", "output")
    assert Representation(Named().eval()).sizes(torch.rand(1, 1, 2, 2)) == {"hidden": 6, "output": 3}


def test_what_another_thread_has_the_classifier_do_is_not_heard() -> None:
    class Visited(MLP):
        """Before its last layer, another thread has it classify other images."""

        def forward(self, images: Tensor) -> Tensor:
            if len(images) == 3:
                with ThreadPoolExecutor(1) as pool:
                    pool.submit(super().forward, torch.rand(2, 1, 28, 28)).result()
            return super().forward(images)

    torch.manual_seed(0)
    model, images = Visited().eval(), torch.rand(3, 1, 28, 28)
    _, alone = Representation(model)(images[:1])
    _, found = Representation(model)(images)
    torch.testing.assert_close(found[:1], alone)


def test_default_layers_of_attention_are_called() -> None:
    encoder = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    model = nn.Sequential(nn.Flatten(2), nn.Linear(16, 8), encoder, nn.Flatten(), nn.Linear(24, 5)).eval()
    assert default_layers(model) == ("1", "2.linear1", "2.linear2", "4", "output")
    logits, activations = Representation(model)(torch.rand(2, 3, 4, 4))
    assert (logits.shape, len(activations)) == ((2, 5), 2)
