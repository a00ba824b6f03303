"""Write docs/speed.md from benchmarks/results/bench/bench.json and benchmarks/results/from-nothing/*.json.

make bench
python -m benchmarks.speed mnist-thesis --only agreement scaling profiles --out benchmarks/results/bench/bench.json
python benchmarks/runs/from_nothing.py quick --out out/from-nothing/quick    # likewise strong, strong-unlabelled
python -m benchmarks.own --out out/own
python -m benchmarks.speed mnist-thesis --only pgd-cnn pgd-resnet \\
    --out benchmarks/results/bench/other.json    # on a processor with AVX512-BF16 alone
python -m benchmarks.docs.speed
"""

import json
from pathlib import Path
from statistics import median
from textwrap import fill
from typing import Any

from carso.report.wording import several
from carso.training.reading import read_recipe

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "speed.md"
MINUTES = {
    "quick": 10,
    "strong": 60,
    "strong-unlabelled": 60,
    "robust-mlp-contrast": 10,
    "robust-cnn": 120,
    "strong-contrast": 120,
    "cifar10": 120,
    "rivals": 240,
}
RACES = (
    "pgd",
    "pgd-cnn",
    "pgd-resnet",
    "deepfool",
    "vote",
    "vote-convolutional",
    "training",
    "training-resnet",
    "fresh",
)
HEAD = """# Speed

Written by `python -m benchmarks.docs.speed` from `benchmarks/results/bench/bench.json`, which `make bench` left, and
from the runs of `benchmarks/runs/from_nothing.py`; no figure is typed in. N is the classifier of a defence; candidates
are the purified images on which it votes. Contestants run in turns within one run, and a ratio is taken round by round,
so that a machine that slows down slows both. Ratios are medians over the rounds, with the smallest and the largest in
brackets. The achievement of each contestant is checked: the success rates of attacks, the answers of votes, the
accuracy after training.

The limit of the machine is the least time for the work's matrix products alone, by the faster of torch's own product
and oneDNN's, measured in the same run. A share of the float32 limit above 1 means that bfloat16 is at work.
"""


OWN = (
    "Wall-clock seconds and the peak memory of each command of [your-own-classifier.md](your-own-classifier.md), in a",
    "process of its own, on 60 photographs of CIFAR-10, 10 of them for the test. `harden` is given three times the",
    "least minutes it asks for; `audit` is a quick one. Written by `python -m benchmarks.own --out out/own`.",
    "",
)


PROCESSES = (
    "Commands as a user starts them, with one process and with `torchrun --nproc-per-node 2`, a thread each, from when",
    "the run's folder is locked to when it is released. The imports of torch for several processes, and their meeting,",
    "count. Rounding makes the weights drift apart, the CNN's in bfloat16; the last column says how far, as a share of",
    "the largest weight of the tensor. Two strangers are independent processes at the same time, each with half of the",
    "images, in training with half of every batch: the most that one can gain. A batch of the first training takes too",
    "little time to gain much. Written by `python -m benchmarks.runs.processes`.",
    "",
)
SERVICE = (
    "`carso serve mnist-strong` on loopback, with clients on the same processor. Each client asks again as soon as it",
    "is answered, for a minute. Written by `python -m benchmarks.runs.serve_load`.",
    "",
)


def prose(text: str) -> str:
    """A paragraph, or an item of a list, in lines of the page's width."""
    return fill(
        text, 126, subsequent_indent="  " * text.startswith("- "), break_long_words=False, break_on_hyphens=False
    )


def spread(found: dict[str, float], unit: str = "x") -> str:
    digits = 1 if found["median"] >= 10 else 2
    return f"{found['median']:.{digits}f}{unit} [{found['least']:.{digits}f}, {found['largest']:.{digits}f}]"


def verdict(met: bool) -> str:
    return "met" if met else "**missed**"


def ratio(entry: dict[str, Any], ours: str, other: str, target: float) -> tuple[str, str]:
    found = entry["ratios"][ours][other]
    return spread(found), verdict(found["median"] >= target)


def share(entry: dict[str, Any], ours: str, dtype: str, target: float) -> tuple[str, str]:
    found = entry["limits"][ours][dtype]
    return f"{found:.2f}", verdict(found >= target)


def against_the_fastest(entry: dict[str, Any], ours: str, least: float) -> tuple[str, str, tuple[str, str]]:
    """The fastest peer, and the ratio to it."""
    rivals = {n: r["median"] for n, r in entry["ratios"]["carso"].items() if not n.startswith("carso")}
    fastest = min(rivals, key=lambda name: rivals[name])
    fair = "" if entry["check"]["agree"][fastest] else ", whose success differs (see its race)"
    return f"{fastest}, the fastest peer{fair}", f"{least:g}x", ratio(entry, ours, fastest, least)


def targets(found: dict[str, Any]) -> list[str]:
    """The table of what was asked for, as far as it was measured."""
    lines = ["| work | against | at least | measured | |", "| --- | --- | ---: | ---: | --- |"]

    def line(entry: dict[str, Any], against: str, least: str, measured: tuple[str, str], suffix: str = "") -> None:
        lines.append(f"| {entry['work']}{suffix} | {against} | {least} | {measured[0]} | {measured[1]} |")

    if pgd := found.get("pgd"):
        line(pgd, *against_the_fastest(pgd, "carso", 3.0))
        line(pgd, *against_the_fastest(pgd, "carso, float32", 2.0), ", float32 products only")
        line(pgd, "bfloat16 limit", "0.25", share(pgd, "carso", "bfloat16", 0.25))
        line(pgd, "float32 limit", "0.6", share(pgd, "carso, float32", "float32", 0.6), ", float32 products only")
    for key, least in (("pgd-cnn", 3.0), ("pgd-resnet", 4.0)):
        if pgd := found.get(key):
            line(pgd, *against_the_fastest(pgd, "carso", least))
            line(pgd, *against_the_fastest(pgd, "carso, float32", 1.2), ", float32 products only")
    if deepfool := found.get("deepfool"):
        line(deepfool, "foolbox", "2x", ratio(deepfool, "carso", "foolbox", 2))
    if vote := found.get("vote"):
        loop = "loop over the samples"
        line(vote, "a loop over the samples", "8x", ratio(vote, "carso, stop exact", loop, 8), ", exact stop")
        line(vote, "a loop over the samples", "40x", ratio(vote, "carso, stop confident", loop, 40), ", confident stop")
        line(vote, "float32 limit", "0.6", share(vote, "carso, stop never", "float32", 0.6), ", no stop")
        line(
            vote,
            "float32 limit",
            "0.6",
            share(vote, "carso, stop never, float32", "float32", 0.6),
            ", no stop, float32 products only",
        )
    if vote := found.get("vote-convolutional"):
        confident = ratio(vote, "carso, stop confident", "loop over the samples", 10)
        line(vote, "a loop over the samples", "10x", confident, f", confident stop{elsewhere(vote, found['pgd'])}")
    if memory := found.get("memory"):
        place = elsewhere(memory, found["pgd"])
        work = f"vote of 1,500 candidates on 10 images of 3x32x32, convolutional purifier{place}"
        peak = memory["found"]["peak"]
        line({"work": work}, "its largest memory", "under 2 GiB", (f"{peak / 2**20:,.0f} MiB", verdict(peak < 2**31)))
    if some := found.get("photographs"):
        work = f"a folder of {some['count']:,} JPEGs of {some['side']} x {some['side']}"
        place, waited, peak = elsewhere(some, found["pgd"]), some["seconds_until_training"], some["peak_mib"]
        begun, held = (f"{waited:.0f} s", verdict(waited <= 120)), (f"{peak:,} MiB", verdict(peak < 3 * 1024))
        line({"work": f"{work}: from decoded to training{place}"}, "the clock", "at most 120 s", begun)
        line({"work": f"{work}: its largest memory{place}"}, "", "under 3 GiB", held)
    if agreement := found.get("agreement"):
        each = agreement["found"]
        line(
            {"work": f"confident stop, {each['n']:,} votes over the ten rows"},
            "the full vote",
            "at most 0.1 %",
            (f"{each['percent']:.3f} % [{each['low']:.3f}, {each['high']:.3f}]", verdict(each["percent"] <= 0.1)),
        )
    plain = "autograd and torchattacks"
    for training in (found[key] for key in ("training", "training-resnet") if key in found):
        line(training, plain, "4x", ratio(training, "carso", plain, 4))
    if fresh := found.get("fresh"):
        seconds = fresh["seconds"]["carso predict"]
        measured = spread(seconds, " s"), verdict(seconds["median"] <= 3)
        line(fresh, "the clock", "at most 3 s", measured)
    for whole in found["from-nothing"]:
        place, most = whole["environment"], MINUTES[whole["recipe"]]
        size = f"{whole['peak_mib']:,} MiB at its peak, {place['cpu']}, threads: {place['threads']}"
        by = f" by {several} processes" if (several := whole.get("processes", 1)) > 1 else ""
        sat = f" in {sittings} sittings" if (sittings := len(whole.get("sittings", [0]))) > 1 else ""
        work = f"`carso {whole.get('verb', 'reproduce')} {whole['recipe']}` from nothing{by}{sat}, {size}"
        work += f", beside {whole['beside']}" if whole.get("beside") else ""
        measured = f"{whole['minutes']:.1f} min", verdict(whole["minutes"] <= most)
        line({"work": work}, "the clock", f"at most {most} min", measured)
    timed = {whole["recipe"] for whole in found["from-nothing"]}
    for recipe, most in MINUTES.items():
        if recipe not in timed:
            line({"work": f"`{recipe}` from nothing"}, "the clock", f"at most {most} min", ("not measured", ""))
    return lines


def missed(found: dict[str, Any]) -> list[str]:
    """Why what is missed, or nearly so, is no faster, from the same figures."""
    vote, recipe = found["vote"], read_recipe("thesis")
    assert recipe.adversarial is not None
    assert recipe.samples is not None
    loop, samples, schedule = "loop over the samples", recipe.samples, recipe.adversarial
    climbing = [spec for spec in schedule.attacks if spec.attack == "pgd"]
    share, steps = len(climbing) / (len(schedule.attacks) + 1), climbing[0].steps
    full, limits = vote["ratios"]["carso, stop never"][loop]["median"], vote["limits"]["carso, stop never"]
    least = samples // 2 + 1
    batches = {p["arguments"].get("batch"): p["seconds"] for p in found["scaling"]["found"] if p["grows"] == "batch"}
    few, many = min(b for b in batches if b >= 50), max(batches)
    shares = found["profiles"]["found"].items()
    profile = next(each for name, each in shares if name.startswith(found["training"]["work"]))
    reached = found["pgd"]["limits"]["carso, float32"]["float32"]
    return [
        "## What limits the rest",
        "",
        prose(
            f"- **Exact stop.** Even a unanimous vote of {samples} is open until {least} votes are cast. So the exact "
            f"stop can at most halve the full vote: {full:.2f}x against the loop becomes {full * samples / least:.2f}x,"
            f" and less where votes are split. The full vote runs at {limits['bfloat16']:.2f} of the bfloat16 limit of "
            f"its products and {limits['float32']:.2f} of the float32 limit."
        ),
        prose(
            f"- **Training epoch.** In a batch of {schedule.batch} the mixture leaves {schedule.batch * share:.0f} "
            f"images to PGD, whose {steps} steps must come one after the other. Matrix products are "
            f"{profile.get('aten::mm', 0):.0f} % of the epoch. Small calls are expensive: {many:,} images cost "
            f"{batches[few] / batches[many]:.1f} times as much in calls of {few} as in one call."
        ),
        prose(
            "- **PGD in float32 only** matters on processors without bfloat16 units. It reaches "
            f"{reached:.2f} of its limit. By its profile below, the rest is not products but element-wise work, and "
            "each of these operations goes through memory once."
        ),
        "",
    ]


def elsewhere(entry: dict[str, Any], usual: dict[str, Any]) -> str:
    """Where it was measured, if on another processor than the first race."""
    where = entry["environment"]
    return (
        ""
        if where["cpu"] == usual["environment"]["cpu"]
        else f", on {where['cpu']}, {several(where['threads'], 'thread', 'threads')}"
    )


def smaller(found: dict[str, Any]) -> list[str]:
    """The races before networks with convolutions, where bfloat16 gains less."""
    raced = [found[key] for key in RACES if key in found]
    rates = raced[0]["machine"]["products_per_second"]
    lines = ["## Where bfloat16 gains less", "", machine(raced[0]), ""]
    told = (
        f"The bfloat16 products of this machine are {rates['bfloat16'] / rates['float32']:.1f} times as fast as its "
        "float32 ones. So little more can be gained over a peer where nearly all the work is products, as in a ResNet. "
        "The first convolution, over the few channels of an image, was made faster after the races above, which were "
        "run on the other processor."
    )
    lines += [prose(told), ""]
    return lines + [line for entry in raced for line in race(entry, raced[0])]


def race(entry: dict[str, Any], usual: dict[str, Any]) -> list[str]:
    """One race: who took how long."""
    chief = next(iter(entry["ratios"]))
    of = entry.get("check", {}).get("of")
    head = ["contestant", "seconds", f"times {chief}"] + ([of] if of else [])
    lines = [
        f"### {entry['work']}",
        "",
        f"{entry['rounds']} rounds{elsewhere(entry, usual)}.",
        "",
        "| " + " | ".join(head) + " |",
    ]
    lines.append("| --- |" + " ---: |" * (len(head) - 1))
    for name, seconds in entry["seconds"].items():
        times = entry["ratios"][chief].get(name)
        cells = [name, f"{seconds['median']:.3f} [{seconds['least']:.3f}, {seconds['largest']:.3f}]"]
        cells.append("1" if times is None else spread(times, ""))
        cells += [f"{entry['check']['figures'][name]:.1f}"] if of else []
        lines.append(f"| {' | '.join(cells)} |")
    odd = [name for name, agrees in entry.get("check", {}).get("agree", {}).items() if not agrees]
    return [*lines, "", f"No fair race, since the work is not equal: {', '.join(odd)}.", ""] if odd else [*lines, ""]


def machine(entry: dict[str, Any]) -> str:
    where, can = entry["environment"], entry["machine"]
    rates = ", ".join(f"{name} {rate / 1e9:,.0f} GFLOP/s" for name, rate in can["products_per_second"].items())
    peers = ", ".join(f"{name} {which}" for name, which in entry["peers"].items())
    clock = {"wall": "by the clock", "processor": "of the processor, one thread, as other programs ran on the machine"}
    threads = several(where["threads"], "thread", "threads")
    return prose(
        f"Seconds are {clock[entry['clock']]}. Machine: "
        f"{where['cpu']}, {threads}, {where['platform']}; torch {where['torch']}, Python "
        f"{where['python']}. Square matrix products run at {rates}; memory is read and written at "
        f"{can['bytes_per_second'] / 1e9:.0f} GB/s. Peers: {peers}. Defence: `{entry['defence']}`."
    )


def agreement(entry: dict[str, Any]) -> list[str]:
    """The confident stop beside the full vote, row by row."""
    found = entry["found"]
    lines = ["## The confident stop", ""]
    lines += [f"The promised error is {found['error']:g} per image. The latents are those of the full vote.", ""]
    lines += ["| attack on N | votes | other answers | samples drawn, mean |", "| --- | ---: | ---: | ---: |"]
    lines += [f"| {r['attack']} | {r['n']} | {r['otherwise']} | {r['samples']:.0f} |" for r in found["rows"]]
    return [*lines, ""]


def profiles(entry: dict[str, Any]) -> list[str]:
    """Where the time goes."""
    lines = ["## Profiles", "", "Shares of processor time that operations take in our own contestants.", ""]
    for name, shares in entry["found"].items():
        listed = ", ".join(f"`{key}` {value:.0f} %" for key, value in shares.items() if value >= 1)
        lines.append(prose(f"- {name}: {listed}."))
    return [*lines, ""]


def scaling(entry: dict[str, Any]) -> list[str]:
    """Seconds and memory as one thing grows."""
    lines = [
        "## Scaling",
        "",
        "Each point is run in a process of its own; memory is what the work adds to that process.",
        "",
    ]
    lines += ["| work | what grows | arguments | seconds | memory (MB) |", "| --- | --- | --- | ---: | ---: |"]
    for point in entry["found"]:
        given = ", ".join(f"{value} {name}" for name, value in point["arguments"].items())
        cells = (point["work"], point["grows"], given, f"{point['seconds']:.3f}", f"{point['bytes'] / 1e6:.0f}")
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def own(cases: list[dict[str, Any]]) -> list[str]:
    """What the commands of docs/your-own-classifier.md take, for every kind of classifier."""
    commands = list(cases[0]["commands"])
    lines = ["## A classifier of one's own", "", *OWN]
    lines += [f"| | {' | '.join(commands)} |", f"| --- |{' ---: |' * len(commands)}"]
    for case in cases:
        took = [f"{t['seconds']:,.0f} s, {t['peak_mib']:,} MiB" for t in case["commands"].values()]
        lines.append(f"| {case['what']} | {' | '.join(took)} |")
    lines.append("")
    for other in sorted({case["beside"] for case in cases if case["beside"]}):
        kinds = "; ".join(case["what"] for case in cases if case["beside"] == other)
        lines.append(prose(f"The machine also ran, beside the commands of {kinds}: {other}.") + "\n")
    return lines


def processes(found: dict[str, Any]) -> list[str]:
    """One process and two, a thread each."""
    lines = ["## Two processes", "", *PROCESSES, "| verb | one process | two | ratio | two strangers | the same |"]
    lines += ["| --- | ---: | ---: | ---: | ---: | --- |"]
    for row in found["verbs"]:
        one, two = (f"{median(row[name]):.0f} s" for name in ("one", "two"))
        same = f"weights to {row['apart']:.1g}" if "apart" in row else "yes" if row["equal"] else "**no**"
        most = f"{row['ceiling']:.2f}x" if "ceiling" in row else ""
        lines.append(f"| `{row['command']}` | {one} | {two} | {row['ratio']:.2f}x | {most} | {same} |")
    turns = len(found["verbs"][0]["one"])
    lines += [
        "",
        f"Medians of {turns} turns; the strangers had one. {found['environment']['cpu']}, {found['cores']} cores.",
    ]
    return [*lines, ""]


def service(found: dict[str, Any]) -> list[str]:
    """What clients of `carso serve` live through."""
    lines = [
        "## The service",
        "",
        *SERVICE,
        "| clients | answers per second | median | p99 | refused | errors | memory |",
    ]
    lines += ["| ---: | ---: | ---: | ---: | ---: | ---: | --- |"]
    for run in found["runs"]:
        middle, p99 = (f"{1000 * run['latency'][name]:.0f} ms" for name in ("p50", "p99"))
        memory = f"{run['MiB']['start']:.0f}, then {run['MiB']['end']:.0f} MiB"
        errors = sum(run["errors"].values())
        cells = (run["clients"], f"{run['per_second']:.1f}", middle, p99, run["refused"], errors, memory)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return [*lines, ""]


def page() -> str:
    """docs/speed.md."""
    results = ROOT / "benchmarks" / "results"
    found = json.loads((results / "bench" / "bench.json").read_text(encoding="utf-8"))
    runs = [results / "from-nothing" / f"{recipe}.json" for recipe in MINUTES]
    found["from-nothing"] = [json.loads(path.read_text(encoding="utf-8")) for path in runs if path.exists()]
    if (many := results / "photographs.json").exists():
        found["photographs"] = json.loads(many.read_text(encoding="utf-8"))
    raced = [found[key] for key in RACES if key in found]
    lines = [HEAD, machine(raced[0]), "", "## Targets", "", *targets(found), "", "## Races", ""]
    lines += [line for entry in raced for line in race(entry, raced[0])]
    lines += missed(found)
    if (other := results / "bench" / "other.json").exists():
        lines += smaller(json.loads(other.read_text(encoding="utf-8")))
    cases = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((results / "own").glob("*.json"))]
    lines += own(cases) if cases else []
    for path, section in ((results / "processes.json", processes), (results / "serve" / "torch.json", service)):
        lines += section(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else []
    for key, part in (("agreement", agreement), ("profiles", profiles), ("scaling", scaling)):
        lines += part(found[key]) if key in found else []
    return "\n".join(lines)


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
