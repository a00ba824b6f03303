import pytest

from carso.audit import load_target
from carso.commands.reproduce import RIVALS
from carso.comparison.study import NAMES, Study, read_study
from carso.errors import RecipeError
from carso.nn import MLP
from carso.rivals.kinds import KINDS, build, trains
from carso.training.studies import parsed

SHAPE, CLASSES = (1, 28, 28), 10
HEAD = """
data: mnist
images: 10
effort: quick
eps: [0.1]
unforeseen: {norm: L2, eps: 1.0, images: 10, effort: quick}
entries:
"""
TRAINING = "[{epochs: 1, rate: 0.01}]"


def test_the_shipped_study_has_every_rival_and_builds_it() -> None:
    study = read_study()
    built = [entry.rival.kind for entry in study.entries.values() if entry.rival is not None]
    assert set(built) == set(KINDS)
    for entry in study.entries.values():
        if entry.rival is not None:
            classifier = MLP(SHAPE) if trains(entry.rival) else load_target(entry.classifier or "")
            build(entry.rival, classifier, SHAPE, CLASSES)


@pytest.mark.parametrize("name", NAMES)
def test_a_study_has_the_name_of_its_file(name: str) -> None:
    assert read_study(name).name == name


def test_the_command_line_knows_every_study() -> None:
    assert RIVALS == NAMES


def test_the_other_study_is_of_entries_of_the_first_at_a_third_of_the_radius() -> None:
    first, other = (read_study(name) for name in NAMES)
    assert set(other.entries) <= set(first.entries)
    assert [round(3 * eps, 9) for eps in other.eps] == list(first.eps)
    for name, entry in other.entries.items():
        if entry.rival is not None and first.entries[name].rival is not None:
            assert entry.rival == first.entries[name].rival


@pytest.mark.parametrize("name", NAMES)
def test_what_the_literature_left_stands_beside_an_audit_of_ours(name: str) -> None:
    study = read_study(name)
    balls = {("Linf", eps) for eps in study.eps} | {(study.unforeseen.norm, study.unforeseen.eps)}
    for published in (each for entry in study.entries.values() for each in entry.published):
        assert (published.left is None) == (published.beside is None)
        assert published.beside is None or (published.beside.norm, published.beside.eps) in balls


def test_noise_for_gradients_is_beside_the_same_defence_without_it() -> None:
    entries = read_study().entries
    bare, *noisy = (entry for name, entry in entries.items() if name.startswith("fiwagr-") and name.endswith("-thesis"))
    assert [entry.randomised for entry in noisy] == [
        ("representation",),
        ("decoder",),
        ("representation", "decoder"),
    ]
    assert all(entry.model_copy(update={"randomised": (), "about": bare.about}) == bare for entry in noisy)


def test_every_purifier_stands_before_both_classifiers_alike() -> None:
    entries = read_study().entries
    pairs = [name for name in entries if f"{name}-adversarial" in entries and entries[name].classifier]
    assert len(pairs) == 5
    for name in pairs:
        first, second = entries[name], entries[f"{name}-adversarial"]
        assert (first.classifier, second.classifier) == ("mnist-strong/undefended", "mnist-strong/classifier")
        assert first.rival == second.rival
        assert second.training == first.training or second.weights_of == name
        assert (first.images, first.effort) == (second.images, second.effort)


def test_a_network_alone_is_known_by_what_its_entry_says() -> None:
    alone = {name for name, entry in read_study().entries.items() if entry.alone}
    targets = {"undefended", "adversarial", "contrast"}
    assert alone == targets | {"adversarial-annealed", "trades", "parseval", "winners", "winners-adversarial"}


def test_an_unknown_name_is_answered_with_a_near_one() -> None:
    with pytest.raises(RecipeError, match="no rival 'puvea'; did you mean 'puvae'"):
        read_study().chosen(("puvea",))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{about: x}", "one of rival, recipe and target"),
        ("{about: x, target: mnist, recipe: quick}", "one of rival, recipe and target"),
        ("{about: x, target: mnist, classifier: mnist}", "are of a rival"),
        ("{about: x, rival: {kind: puvae}, training: " + TRAINING + "}", "needs an N"),
        ("{about: x, rival: {kind: parseval}, classifier: mnist/undefended}", "trains an N"),
        ("{about: x, rival: {kind: puvae}, classifier: mnist/undefended, weights_of: b}", "takes its weights of 'b'"),
        ("{about: x, rival: {kind: puvae}, classifier: mnist/undefended, weights_of: a}", "takes its weights of 'a'"),
        ("{about: x, rival: {kind: puvae}, classifier: mnist/undefended}", "another number of trainings than 0: 1"),
        ("{about: x, target: mnist}\n  a: {about: y, target: mnist}", "line 9: field 'a' stands here twice"),
        ("{about: x, target: [}", "the study, line .* is not valid YAML"),
        ("{about: x, recipe: quick, randomised: [decoder]}", "randomised is of a target"),
        ("{about: x, target: mnist, images: 0}", "entries.a.images"),
    ],
)
def test_a_study_that_is_wrong_is_refused(entry: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parsed(f"{HEAD}  a: {entry}\n", Study)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("rival: {kind: puvae, options: {latent: 3}}", "which is another rival"),
        ("rival: {kind: puvae}, training: " + TRAINING, "and so has no training"),
    ],
)
def test_weights_are_taken_of_the_same_kind_and_without_a_training(other: str, message: str) -> None:
    first = "  a: {about: x, rival: {kind: puvae}, classifier: mnist/undefended, training: " + TRAINING + "}"
    second = "  b: {about: x, classifier: mnist/undefended, weights_of: a, " + other + "}"
    with pytest.raises(RecipeError, match=f"b takes its weights of 'a', {message}"):
        parsed(f"{HEAD}{first}\n{second}\n", Study)
