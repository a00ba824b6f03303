"""Audits of many models and seeds, each a job of a queue that there already is, by submitit (extra `sweep`).

    python sweep.py mnist mnist/classifier --seeds 0 1 2 -- --images 200 --effort quick
    python sweep.py mnist mnist/classifier --seeds 0 1 2 --cluster slurm --partition cpu --cores 4 -- --effort full

What stands behind `--` goes to every `carso audit`. Each job's folder is `out/sweep/MODEL-SEED`: one that was broken
off goes on when the same sweep is begun again, one that is done only answers anew. At the end stands a line for every
audit.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import submitit

DONE = (0, 3)
"""Exit statuses of an audit that ended: nothing to doubt, or a check raised."""


def audit(model: str, seed: int, out: str, options: list[str]) -> dict[str, object]:
    """Audit one model from one seed, and return the figures of each budget."""
    command = [sys.executable, "-m", "carso", "audit", model, "--seed", str(seed), "--out", out, *options]
    with open(f"{out}.log", "w", encoding="utf-8") as log:
        done = subprocess.run(command, stdout=log, stderr=log)
    if done.returncode not in DONE:
        raise RuntimeError(f"exit status {done.returncode}; see {out}.log")
    found = json.loads((Path(out) / "audit.json").read_text(encoding="utf-8"))
    worst = {f"{budget['norm']} {budget['eps']:g}": budget["worst_case"]["accuracy"] for budget in found["budgets"]}
    return {"model": model, "seed": seed, "raised": done.returncode == DONE[1], "worst_case": worst}


def main(given: argparse.Namespace) -> int:
    """Submit every audit, wait for all, and print a line for each; 1 if one failed."""
    out = given.out.resolve()
    executor = submitit.AutoExecutor(out / "jobs", cluster=given.cluster)
    executor.update_parameters(timeout_min=60 * given.hours, cpus_per_task=given.cores)
    if given.partition:
        executor.update_parameters(slurm_partition=given.partition)
    every = [(model, seed) for model in given.models for seed in given.seeds]
    folders = [str(out / f"{model.replace('/', '-')}-{seed}") for model, seed in every]
    with executor.batch():
        jobs = [executor.submit(audit, *one, folder, given.options) for one, folder in zip(every, folders, strict=True)]
    found = [job.result() if job.exception() is None else None for job in jobs]
    for one, folder, row in zip(every, folders, found, strict=True):
        print(json.dumps(row or {"model": one[0], "seed": one[1], "failed": f"{folder}.log"}))
    return 1 if None in found else 0


def arguments(given: list[str]) -> argparse.Namespace:
    """What is before `--` as it is described, with what is behind it as `options`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="defences, folders or package.module:function")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--cluster", choices=["local", "slurm"], default="local")
    parser.add_argument("--partition", help="of SLURM")
    parser.add_argument("--cores", type=int, default=1, help="of each job")
    parser.add_argument("--hours", type=int, default=24, help="that a job may take")
    parser.add_argument("--out", type=Path, default=Path("out/sweep"))
    end = given.index("--") if "--" in given else len(given)
    return argparse.Namespace(**vars(parser.parse_args(given[:end])), options=given[end + 1 :])


if __name__ == "__main__":
    sys.exit(main(arguments(sys.argv[1:])))
