"""A recipe: one experiment as data, from the classifier's layers to the purifier's attacks.

Recipes are YAML. Every field has a type and most have a default; unknown, mistyped and contradictory fields are refused
with the line on which they stand. `base` names a shipped recipe: what the file does not give is taken from it, field by
field; a list is taken whole, and `null` takes away a section. The resolved recipe, base and defaults included, is saved
beside the weights.
"""

from __future__ import annotations

import difflib
import hashlib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from carso.errors import RecipeError
from carso.types import Budget, Norm

Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


def _yaml_true(value: object) -> object:
    """YAML reads a bare `true` as a boolean."""
    return "true" if value is True else value


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class AttackSpec(_Strict):
    """One attack of a training mixture.

    "annealed" is PGD whose step shrinks from 2 eps to almost nothing (`carso.attacks.annealed`); `alpha` is PGD's own.
    "noise" is drawn uniformly from the ball and follows no gradient.
    """

    attack: Literal["fgsm", "pgd", "annealed", "noise"]
    eps: Annotated[float, Field(gt=0, le=10)]
    norm: Norm = "Linf"
    steps: Positive = 40
    alpha: Annotated[float, Field(gt=0)] | None = None
    loss: Literal["cross_entropy", "margin", "dlr"] = "cross_entropy"
    directed_at: Literal["classifier", "defence"] = "classifier"

    @model_validator(mode="after")
    def _coherent(self) -> AttackSpec:
        if self.alpha is not None and self.attack != "pgd":
            raise ValueError(f"alpha is the step of pgd; {self.attack} has none to choose")
        return self

    @property
    def budget(self) -> Budget:
        """Its ball."""
        return Budget(self.norm, self.eps)


class Schedule(_Strict):
    """How a network is optimised.

    `rate` is the peak learning rate. "plateau" multiplies it by `factor` when the loss has not fallen for `patience`
    epochs (thesis); "cosine" warms up linearly over `warmup` of the steps, then follows half a cosine to zero.
    `average` is the decay per step of an exponential moving average of the weights, 0 for none. `threads` is how many
    of the processor's threads to use, by default all: on a given number, sums have the same order on every machine.
    `optimiser`: "radam" decouples its weight decay from the rate's adaptation; "sgd" has Nesterov's momentum of 0.9.
    """

    epochs: Positive
    batch: Annotated[int, Field(ge=2)] = 256
    rate: Annotated[float, Field(gt=0)]
    shape: Literal["cosine", "plateau"] = "cosine"
    warmup: Fraction = 0.05
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.6
    patience: Positive = 10
    average: Fraction = 0.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    optimiser: Literal["radam", "sgd"] = "radam"
    threads: Positive | None = None


class ClassifierSpec(_Strict):
    """N's architecture: a `carso.nn.MLP`, or a function of the user's that returns a trained module.

    `maps`: channels of convolutions before the hidden layers.
    """

    maps: tuple[Positive, ...] = ()
    hidden: tuple[Positive, ...] = (200, 80)
    dropout: Fraction = 0.15
    output: Literal["logits", "mish-log-softmax"] = "logits"
    factory: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")] | None = None


class ClassifierTraining(Schedule):
    """Stage 1.

    `mixing`: "parts" splits each batch evenly over clean images and the attacks; "steps" takes one optimiser step for
    the clean batch and one for each attack on the whole of it, as the published code does.
    `ramp`: share of the epochs over which the attacks' radii grow to what they are.
    `clean`: whether clean images are a part beside the attacks; without them, training is that of Madry et al.
    `crop`: pixels by which images are shifted at most, each way, before they are attacked; `flip`: whether half of them
    are mirrored, left to right.
    """

    attacks: tuple[AttackSpec, ...] = ()
    mixing: Literal["parts", "steps"] = "parts"
    ramp: Fraction = 0.0
    clean: bool = True
    crop: Annotated[int, Field(ge=0)] = 0
    flip: bool = False

    @model_validator(mode="after")
    def _something_to_learn_from(self) -> ClassifierTraining:
        if not self.clean and not self.attacks:
            raise ValueError("clean: false needs attacks, or a batch would have no part")
        return self


class PurifierSpec(_Strict):
    """The conditional VAE's architecture and what it reads of N.

    `widths`: the rule for the sizes of its layers; `representation`: those of R in place of the rule's, the last being
    the code's; `maps`: channels of the convolutions that R begins with on layers that are images or maps. R runs once
    per image, not once per candidate, so that it may be large.
    """

    latent: Positive = 36
    widths: Literal["published", "interpolated"] = "published"
    representation: tuple[Positive, ...] = ()
    maps: tuple[Positive, ...] = ()
    layers: tuple[str, ...] | None = None


class PurifierTraining(Schedule):
    """Stage 2.

    `feed`: "fresh" attacks every batch anew, "cached" attacks the training images once (N is frozen, so that loses only
    the random starts), "pairs" reads ready-made (attacked, clean) images from the file `pairs`.
    `labels`: what the attacks attack, N's own prediction on the clean image or the "true" label.
    `ramp`: share of the epochs over which the attacks' radii grow to what they are; needs attacks made anew.
    `consistency`: weight of the cross-entropy of N on a recalled sample, against the same labels.
    """

    attacks: tuple[AttackSpec, ...] = ()
    mixing: Literal["parts", "steps"] = "steps"
    feed: Literal["fresh", "cached", "pairs"] = "cached"
    pairs: str | None = None
    labels: Annotated[Literal["predicted", "true"], BeforeValidator(_yaml_true)] = "predicted"
    kl_weight: Annotated[float, Field(ge=0)] = 1.0
    kl_warmup: Fraction = 0.0
    ramp: Fraction = 0.0
    consistency: Annotated[float, Field(ge=0)] = 0.0

    @model_validator(mode="after")
    def _coherent(self) -> PurifierTraining:
        if (self.feed == "pairs") != (self.pairs is not None):
            raise ValueError("feed: pairs and the file `pairs` go together")
        if self.feed == "cached" and any(a.directed_at == "defence" for a in self.attacks):
            raise ValueError("attacks on the defence change as the purifier learns: use feed: fresh")
        if self.feed != "fresh" and self.ramp:
            raise ValueError("ramp needs attacks made anew: use feed: fresh")
        return self


class Recipe(_Strict):
    """Everything that decides the weights, but for the seed's default; without `purification`, a classifier alone.

    `hardening` goes on from the purifier of `purification`, with attacks and weights of its own.
    """

    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    data: str = "mnist"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    samples: Positive = 1500
    classifier: ClassifierSpec = ClassifierSpec()
    undefended: ClassifierTraining | None = None
    adversarial: ClassifierTraining | None = None
    purifier: PurifierSpec = PurifierSpec()
    purification: PurifierTraining | None = None
    hardening: PurifierTraining | None = None

    @model_validator(mode="after")
    def _coherent(self) -> Recipe:
        if self.hardening is not None and self.purification is None:
            raise ValueError("hardening goes on from a purification, which is missing")
        return self

    @property
    def fingerprint(self) -> str:
        """A short digest of every field: two recipes train the same weights if it is the same."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]

    def to_yaml(self) -> str:
        """The resolved recipe, defaults included."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def shipped() -> list[str]:
    """Names of the recipes inside the package."""
    folder = resources.files("carso") / "recipes"
    return sorted(Path(entry.name).stem for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def read_recipe(source: str | Path) -> Recipe:
    """A recipe by the name of a shipped one, or from a YAML file.

    Raises:
        RecipeError: naming the file, the line and the field, and what is wrong with it.
    """
    path = Path(source)
    if path.suffix not in {".yaml", ".yml"} and not path.is_file():
        return parse_recipe(_shipped_text(str(source), "; or pass a .yaml file"), f"recipe {source}")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot read the recipe {path}: {error}") from error
    return parse_recipe(text, str(path))


def _shipped_text(name: str, otherwise: str = "") -> str:
    if name not in shipped():
        near = difflib.get_close_matches(name, shipped(), n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise RecipeError(f"no recipe {name!r}; {hint}shipped: {', '.join(shipped())}{otherwise}")
    return (resources.files("carso") / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")


def parse_recipe(text: str, source: str) -> Recipe:
    """A recipe from YAML text; `source` names it in errors."""
    try:
        tree, values = yaml.compose(text, Loader=yaml.SafeLoader), yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise RecipeError(f"{source}, line {line}: is not valid YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise RecipeError(f"{source} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise RecipeError(f"{source} must be a mapping of fields, as in recipes/thesis.yaml")
    _check_repeated(tree, source)
    try:
        return Recipe.model_validate(_on_base(values, f"{source}, line {_line(tree, ('base',))}"), strict=False)
    except ValidationError as error:
        raise RecipeError("\n".join(_explain(source, tree, e) for e in error.errors())) from error


def _on_base(values: dict[str, Any], place: str) -> dict[str, Any]:
    """The fields of a recipe over those of its base, if it has one; the name is always its own."""
    own = {field: value for field, value in values.items() if field != "base"}
    if "base" not in values:
        return own
    if not isinstance(values["base"], str):
        raise RecipeError(f"{place}: base: Input should be the name of a shipped recipe, not {values['base']!r}")
    try:
        text = _shipped_text(values["base"])
    except RecipeError as error:
        raise RecipeError(f"{place}: base: {error}") from error
    base = _on_base(yaml.safe_load(text), place)
    return _merged({field: value for field, value in base.items() if field != "name"}, own)


def _merged(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    both = {
        field: _merged(base[field], value)
        for field, value in own.items()
        if isinstance(value, dict) and isinstance(base.get(field), dict)
    }
    return base | own | both


def _check_repeated(node: yaml.Node | None, source: str) -> None:
    fields: set[str] = set()
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if key.value in fields:
            raise RecipeError(f"{source}, line {key.start_mark.line + 1}: field {key.value!r} stands here twice")
        fields.add(key.value)
        _check_repeated(value, source)


def _explain(source: str, tree: yaml.Node | None, error: Any) -> str:
    place = ".".join(str(part) for part in error["loc"]) or "the recipe"
    line = _line(tree, error["loc"])
    if error["type"] == "extra_forbidden":
        return f"{source}, line {line}: unknown field {place!r}{_suggest(error['loc'])}"
    of_section = error["type"] in {"missing", "value_error"} and isinstance(error["input"], dict)
    given = "" if of_section else f", not {error['input']!r}"
    return f"{source}, line {line}: {place}: {error['msg']}{given}"


def _suggest(loc: tuple[int | str, ...]) -> str:
    model: Any = Recipe
    for part in loc[:-1]:
        if isinstance(part, str) and part in getattr(model, "model_fields", {}):
            model = _model_of(model.model_fields[part].annotation)
    fields = [*getattr(model, "model_fields", {}), *(["base"] if model is Recipe else [])]
    near = difflib.get_close_matches(str(loc[-1]), fields, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _model_of(annotation: Any) -> Any:
    options = getattr(annotation, "__args__", (annotation,))
    return next((option for option in options if hasattr(option, "model_fields")), None)


def _line(node: yaml.Node | None, loc: tuple[int | str, ...]) -> int:
    if node is None:
        return 1
    line = int(node.start_mark.line) + 1
    for part in loc:
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == part), None)
            if found is None:
                return line
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = int(node.start_mark.line) + 1
    return line
