"""Time attacks, votes and training beside the peers' and the machine's limit, in one run: `make bench`.

python -m benchmarks.speed mnist-thesis [--images 1000] [--rounds 5] [--only pgd vote ...] [--out FILE.json]
"""

import argparse
from pathlib import Path
from typing import get_args

from benchmarks.speed.bench import RACES, STUDIES, bench
from benchmarks.speed.race import Clock

import carso

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("defence", help="a shipped defence or a folder of weights")
    parser.add_argument("--images", type=int, default=1000, help="how many images are attacked")
    parser.add_argument("--rounds", type=int, default=5, help="how often each contestant runs")
    parser.add_argument("--only", nargs="+", default=[], choices=[*RACES, *STUDIES], help="by default the races")
    parser.add_argument("--clock", default="wall", choices=get_args(Clock), help="processor: on one thread")
    parser.add_argument("--out", type=Path, help="add the figures to this JSON file")
    given = parser.parse_args()
    options = {"images": given.images, "rounds": given.rounds, "only": given.only, "clock": given.clock}
    bench(carso.load(given.defence), given.out, name=given.defence, **options)
