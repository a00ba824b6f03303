import time
from pathlib import Path

import pytest

from carso.errors import RecipeError
from carso.training.reading import derived, parse_recipe, read_recipe, shipped
from carso.training.recipe import ClassifierSpec

LEAST = "name: x\npurification: {epochs: 1, rate: 0.1}\n"
PGD, WHOLE = "attacks: [{attack: pgd, eps: 0.3}]", "attacks: [{attack: pgd, eps: 0.3, directed_at: defence}]"


@pytest.mark.parametrize("name", shipped())
def test_shipped_recipes_survive_being_resolved(name: str) -> None:
    recipe = read_recipe(name)
    assert recipe.name == name
    assert parse_recipe(recipe.to_yaml(), "resolved") == recipe


@pytest.mark.parametrize("written", ["true", '"true"'])
def test_true_labels_may_be_written_as_yaml_reads_them(written: str) -> None:
    text = LEAST.replace("0.1", f"0.1, labels: {written}")
    assert parse_recipe(text, "r.yaml").purification.labels == "true"


@pytest.mark.parametrize("written", ["48x64", "48 X 64", "[48, 64]"])
def test_sizes_may_be_written_as_people_do(written: str) -> None:
    recipe = parse_recipe(LEAST + f"size: {written}\nchannels: 3\n", "r.yaml")
    assert recipe.fitting == {"size": (48, 64), "channels": 3}
    assert parse_recipe(recipe.to_yaml(), "resolved") == recipe
    assert parse_recipe(LEAST, "r.yaml").fitting == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LEAST + "size: 48\n", r"line 3: size: "),
        (LEAST + "size: 48 by 64\n", r"line 3: size: .* height x width in pixels, such as 224x224, not '48 by 64'"),
        (LEAST + "size: [48, 0]\n", r"line 3: size.1: .*greater than 0"),
        (LEAST + "channels: 4\n", r"line 3: channels: "),
        (LEAST + "sead: 3\n", r"r.yaml, line 3: unknown field 'sead'; did you mean 'seed'"),
        ("name: x\npurification:\n  epochs: 1\n  rate: high\n", r"line 4: purification.rate: .*'high'"),
        ("name: x\npurification:\n  rate: 0.1\n", r"line 2: purification.epochs: Field required"),
        ("name: x\npurification:\n  epochs: 1\n  rate: 1\n  attacks:\n  - {attack: pgd, eps: -1}\n", r"line 6: .*eps"),
        (LEAST.replace("0.1", "0.1, attacks: [{attack: fgsm, eps: 8}]"), r"at most 1 in Linf.*did you mean 8/255\?"),
        (LEAST.replace("0.1", "0.1, feed: pairs"), "go together"),
        (LEAST.replace("0.1", f"0.1, feed: pairs, pairs: a.npz, {PGD}"), "leave them out here: attacks: "),
        (f"name: x\nadversarial: {{epochs: 1, rate: 0.1, {WHOLE}}}\n", "there is no defence before the purifier"),
        (LEAST.replace("0.1", "0.1, ramp: 0.5"), "ramp, crop and flip need attacks made anew"),
        (LEAST.replace("0.1", "0.1, flip: true"), "ramp, crop and flip need attacks made anew"),
        (LEAST.replace("0.1", "0.1, flat: 0.5"), "flat is of shape: linear"),
        (LEAST.replace("0.1", "0.1, shape: linear, warmup: 0.5, flat: 0.5"), "leaves with warmup some of the steps"),
        (
            LEAST.replace("0.1", "0.1, kl_lag: 0.1, kl_warmup: 0.95"),
            "must be less than 1 together",
        ),
        (LEAST.replace("0.1", "0.1, attacks: [{attack: annealed, eps: 0.3, alpha: 0.1}]"), "alpha is the step of pgd"),
        (LEAST.replace("0.1", ".inf"), r"line 2: purification.rate: .*finite"),
        (LEAST.replace("0.1", "0.1, batch: 1"), r"line 2: purification.batch: .*2"),
        (LEAST + f"seed: {2**63}\n", r"line 3: seed"),
        (LEAST + "name: y\n", r"line 3: field 'name' stands here twice"),
        ("name: x\npurification:\n  rate: 1\n  rate: 2\n", r"line 4: field 'rate' stands here twice"),
        ("name: [x\n", r"r.yaml, line 2: is not valid YAML: expected"),
        ("- 1\n", "must be a mapping"),
        ("name: x\nbase: thesys\n", r"r.yaml, line 2: base: no recipe 'thesys'; did you mean 'thesis'"),
        ("name: x\nbase: [thesis]\n", r"r.yaml, line 2: base: Input should be the name .*\['thesis'\]"),
        ("name: x\nbases: thesis\n", r"line 2: unknown field 'bases'; did you mean 'base'"),
        ("base: thesis\n", r"line 1: name: Field required$"),
        (LEAST.replace("0.1", "{a: 1}"), r"line 2: purification.rate: .*, not \{'a': 1\}"),
        ("name: x\nbase: thesis\nhardening: {epochs: 3}\n", r"line 3: hardening.rate: Field required"),
        (LEAST.replace("epochs: 1", "epochs: " + "9" * 23), r"line 2: purification.epochs: .* 1000000000"),
        (LEAST.replace("epochs: 1", "epochs: true"), r"line 2: purification.epochs: .* integer, not True"),
        (LEAST.replace("epochs: 1", "epochs: 1.0"), r"line 2: purification.epochs: .* integer, not 1.0"),
        (LEAST.replace("epochs: 1", "epochs: '1'"), r"line 2: purification.epochs: .* integer, not '1'"),
        (LEAST.replace("0.1", "true"), r"line 2: purification.rate: .* number, not True"),
        (LEAST + "samples: 1000000000\n", r"line 3: samples: .* less than or equal to 10000"),
        (LEAST.replace("name: x", "name: .."), r"line 1: name: .*, not '\.\.'"),
        (LEAST.replace("name: x", "name: ."), r"line 1: name: .*, not '\.'"),
        (LEAST.replace("name: x", "name: .hidden"), r"line 1: name: .*, not '\.hidden'"),
        (LEAST.replace("name: x", "name: a/b"), r"line 1: name: .*, not 'a/b'"),
        (LEAST.replace("name: x", "name: " + "x" * 101), r"line 1: name: .* at most 100 characters"),
        (LEAST.replace("epochs: 1", "epochs: 2001-01-01"), r"line 2: purification.epochs: .*, not '2001-01-01'"),
        (LEAST.replace("epochs: 1", "epochs: " + "9" * 5000), "is not valid YAML: Exceeds the limit"),
        (LEAST + "? [a]\n: 1\n", r"line 3: the name of a field is plain text"),
        (LEAST + "1: x\n", r"line 3: the name of a field is plain text, not '1'"),
        (LEAST.replace("0.1", "0.1, attacks: [{eps: 1, eps: 2}]"), r"line 2: field 'eps' stands here twice"),
        (LEAST + "data: !!python/name:os.system\n", r"line 3: the tag .* has no place in a recipe"),
        (LEAST + "data: !!int ''\n", r"line 3: the tag .* has no place in a recipe"),
        ("name: x\x00\n", r"^r\.yaml is not valid YAML"),
        (LEAST + "purifier: &a {maps: [*a]}\n", r"line 3: has more than 10,000 values"),
        ("x: " + "[" * 10**5, r"line 1: is more than 20 sections deep"),
        ("x: [" + "1, " * 20_000 + "]", r"line 1: has more than 10,000 values"),
        ("x: " + "y" * 2**18, r"is longer than 262,144 characters"),
    ],
)
def test_mistakes_are_named_with_their_line(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_recipe(text, "r.yaml")


def test_a_recipe_says_only_what_its_base_does_not() -> None:
    base = read_recipe("strong")
    own = "name: x\nbase: strong\npurification: null\nhardening: null\npurifier: {maps: [8]}\n"
    expected = base.model_copy(
        update={
            "name": "x",
            "purification": None,
            "hardening": None,
            "purifier": base.purifier.model_copy(update={"maps": (8,)}),
        }
    )
    assert parse_recipe(own, "r.yaml") == expected
    assert "base" not in expected.to_yaml()


def test_lists_of_attacks_are_taken_whole() -> None:
    own = "name: x\nbase: thesis\nadversarial: {epochs: 3, attacks: [{attack: fgsm, eps: 0.1}]}\n"
    recipe, base = parse_recipe(own, "r.yaml").adversarial, read_recipe("thesis").adversarial
    assert recipe is not None
    assert base is not None
    assert (recipe.epochs, recipe.rate, len(recipe.attacks)) == (3, base.rate, 1)


def test_unknown_recipes_get_a_near_one() -> None:
    with pytest.raises(RecipeError, match="did you mean 'thesis'"):
        read_recipe("thesys")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"nothing\.yaml"):
        read_recipe(tmp_path / "nothing.yaml")


def test_the_fingerprint_sees_every_field() -> None:
    a, b = parse_recipe(LEAST, "a"), parse_recipe(LEAST + "samples: 7\n", "b")
    assert a.fingerprint == parse_recipe(LEAST, "again").fingerprint
    assert a.fingerprint != b.fingerprint


BOMB = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)


def test_aliases_that_multiply_are_not_written_out() -> None:
    assert len(BOMB) < 833
    began = time.monotonic()
    with pytest.raises(RecipeError, match=r"r\.yaml, line 5: has more than 10,000 values by here, aliases written out"):
        parse_recipe(BOMB, "r.yaml")
    assert time.monotonic() - began < 1


def test_aliases_and_merged_sections_may_be_used() -> None:
    section = "{epochs: 1, rate: 1e-3, attacks: [&a {attack: fgsm, eps: 0.1}, *a]}"
    text = f"name: x\npurification: &p {section}\nhardening: {{<<: *p, rate: 2E-3}}\n"
    recipe = parse_recipe(text, "r.yaml")
    assert recipe.purification is not None
    assert recipe.hardening is not None
    assert (recipe.purification.rate, recipe.hardening.rate, recipe.hardening.epochs) == (0.001, 0.002, 1)
    assert len(recipe.hardening.attacks) == 2


def test_many_mistakes_are_not_all_listed() -> None:
    text = LEAST + "".join(f"unknown{i}: {'x' * 1000}\n" for i in range(50))
    with pytest.raises(RecipeError, match="line 3: unknown field 'unknown0'") as caught:
        parse_recipe(text, "r.yaml")
    assert len(str(caught.value)) <= 500
    assert "line 7: unknown field 'unknown4'" in str(caught.value)


@pytest.mark.parametrize("content", [b"name: caf\xe9\n", b"#" * (2**18 + 1)])
def test_a_file_that_is_no_recipe_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_bytes(content)
    with pytest.raises(RecipeError, match=r"r\.yaml: is (not UTF-8 text|longer than 262,144 characters)"):
        read_recipe(tmp_path / "r.yaml")


def test_a_factory_of_the_users_takes_the_place_of_the_classifier_of_the_base() -> None:
    whole = parse_recipe('name: x\nbase: cifar10\nclassifier: {factory: "mine:build"}\n', "r")
    assert read_recipe("cifar10").classifier.architecture == "resnet"
    assert whole.classifier == ClassifierSpec(factory="mine:build")
    assert whole.adversarial == read_recipe("cifar10").adversarial


def test_no_factory_leaves_the_classifier_of_the_base() -> None:
    whole = parse_recipe("name: x\nbase: cifar10\nclassifier: {factory: null}\n", "r")
    assert whole.classifier == read_recipe("cifar10").classifier


def test_fields_of_another_architecture_are_refused() -> None:
    with pytest.raises(RecipeError, match="width is of architecture: resnet, and this is mlp"):
        parse_recipe("name: a\nclassifier: {width: 16}", "r")
    with pytest.raises(RecipeError, match="groups is of architecture: cnn, and this is mlp"):
        parse_recipe("name: a\nclassifier: {groups: [8]}", "r")
    with pytest.raises(RecipeError, match="contrast is of architecture: mlp, and this is resnet"):
        parse_recipe("name: a\nclassifier: {architecture: resnet, contrast: 0.1}", "r")
    with pytest.raises(RecipeError, match="architecture is of the library's own networks, and factory says who makes"):
        parse_recipe('name: a\nclassifier: {factory: "mine:build", architecture: cnn}', "r")
    with pytest.raises(RecipeError, match="hidden is of the library's own networks, and factory says who makes"):
        parse_recipe('name: a\nclassifier: {factory: "mine:build", hidden: [9]}', "r")
    own = parse_recipe("name: a\nclassifier: {architecture: cnn, hidden: [9], contrast: 0.25}", "r").classifier
    assert own.options == {"groups": (32, 64), "hidden": (9,), "contrast": 0.25}
    recipe = parse_recipe("name: a\nclassifier: {architecture: resnet, width: 16, blocks: [1]}", "r")
    assert recipe.classifier.options == {"width": 16, "blocks": (1,), "stem": None, "activation": "relu"}
    assert parse_recipe(recipe.to_yaml(), "r") == recipe


def test_a_batch_needs_a_part() -> None:
    with pytest.raises(RecipeError, match="clean: false needs attacks"):
        parse_recipe("name: a\nadversarial: {epochs: 1, rate: 0.1, clean: false}", "r")


def test_radii_may_be_fractions() -> None:
    attack = "{attack: pgd, eps: 8/255, alpha: 2/255}"
    recipe = parse_recipe(f"name: a\nadversarial: {{epochs: 1, rate: 0.1, attacks: [{attack}]}}", "r")
    assert recipe.adversarial is not None
    assert (recipe.adversarial.attacks[0].eps, recipe.adversarial.attacks[0].alpha) == (8 / 255, 2 / 255)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("trades: 6", "trades needs attacks"),
        ("trades: 6, mixing: steps, attacks: [{attack: pgd, eps: 0.1}]", "whole batches"),
        ("trades: 6, attacks: [{attack: fgsm, eps: 0.1}]", "climb the divergence"),
        ("trades: 6, attacks: [{attack: pgd, eps: 0.1, loss: margin}]", "climb the divergence"),
        ("trades: -1", "trades"),
        ("trades: 6, clean: false, attacks: [{attack: pgd, eps: 0.1}]", "leave out clean: false"),
    ],
)
def test_trades_has_attacks_of_its_own_kind(fields: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_recipe(f"name: a\nadversarial: {{epochs: 1, rate: 0.1, {fields}}}", "r")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("hidden: 3", "hidden is of widths: interpolated"),
        ("widths: uncompressed, representation: [9]", "uncompressed has no R"),
        ("widths: uncompressed, maps: [9]", "uncompressed has no R"),
        ("kind: dense, code: 7", "code is of kind: convolutional, and this is dense"),
        ("kind: convolutional, representation: [5]", "representation is of kind: dense, and this is convolutional"),
        ("kind: corrective, maps: [5]", "maps is of kind: dense, and this is corrective"),
        ("shift: 3", "shift is of kind: corrective, and this is dense or convolutional"),
    ],
)
def test_a_purifier_has_its_sizes_from_one_place(fields: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_recipe(f"name: x\npurifier: {{{fields}}}", "r")


def test_the_trades_of_a_purifier_is_within_its_consistency() -> None:
    with pytest.raises(RecipeError, match="trades is within the weight of consistency, which is 0"):
        parse_recipe("name: a\npurification: {epochs: 1, rate: 0.1, trades: 6}", "r")


@pytest.mark.parametrize("kind", ["dense", "convolutional", "corrective"])
def test_fields_of_another_kind_may_stand_at_their_defaults(kind: str) -> None:
    recipe = parse_recipe(f"name: x\npurifier: {{kind: {kind}}}", "r")
    assert parse_recipe(recipe.to_yaml(), "resolved") == recipe


def test_a_derived_recipe_says_only_what_its_base_does_not() -> None:
    base = read_recipe("thesis")
    recipe = derived(base, {"name": "x", "purifier": {"latent": 3}, "undefended": None}, "x")
    assert recipe == base.model_copy(
        update={"name": "x", "purifier": base.purifier.model_copy(update={"latent": 3}), "undefended": None}
    )
    assert recipe.first_stage == base.first_stage
    assert derived(base, {"adversarial": {"attacks": []}}, "x").first_stage != base.first_stage
    with pytest.raises(RecipeError, match=r"unknown field 'purifier\.latents'"):
        derived(base, {"purifier": {"latents": 3}}, "x")
