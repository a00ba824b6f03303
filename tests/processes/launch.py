"""Runs commands of the command line with one process, two and four, each forked from this one, which has all imports.

    python launch.py COMMANDS      a JSON list of [processes, [arguments]]

Prints the exit statuses of each command's processes, a JSON list of lists.
"""

import json
import os
import socket
import sys

import torch

import carso.audit
import carso.evaluation
import carso.report.publish
import carso.report.terminal
import carso.training.experiment  # noqa: F401
from carso.commands import cli
from carso.fast import products


def run(processes: int, arguments: list[str]) -> list[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    children = [begin({**told, "RANK": str(rank), "LOCAL_RANK": str(rank)}, arguments) for rank in range(processes)]
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def begin(told: dict[str, str], arguments: list[str]) -> int:
    child = os.fork()
    if child:
        return child
    os.environ.update(told)
    sys.argv = ["carso", *arguments]
    log = os.open(f"{told['WORLD_SIZE']}-{told['RANK']}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        cli.main()
        status = 0
    except SystemExit as stopped:
        status = int(stopped.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    products.product_dtype = lambda device: torch.float32  # bfloat16 rounds by more than what is compared
    torch.set_num_threads(1)
    print(json.dumps([run(processes, arguments) for processes, arguments in json.loads(sys.argv[1])]))
