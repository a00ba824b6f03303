import subprocess
import sys
import time

import pytest
import torch
from benchmarks.speed.machine import bandwidth, product_rate, product_seconds
from benchmarks.speed.race import Spread, race, ratio


def test_contestants_run_in_turns_after_a_round_that_does_not_count() -> None:
    order: list[str] = []

    def run(letter: str) -> int:
        order.append(letter)
        return len(order)

    finish = race("letters", {"a": lambda: run("a"), "b": lambda: run("b")}, rounds=3)
    assert order == ["a", "b"] * 4
    assert {name: len(values) for name, values in finish.seconds.items()} == {"a": 3, "b": 3}
    assert finish.results == {"a": [1, 3, 5, 7], "b": [2, 4, 6, 8]}
    assert finish.rounds == [{"a": 1, "b": 2}, {"a": 3, "b": 4}, {"a": 5, "b": 6}, {"a": 7, "b": 8}]


def test_contestants_of_a_round_draw_the_same_numbers() -> None:
    def draw() -> float:
        return torch.rand(1).item()

    results = race("draws", {"a": draw, "b": draw}, rounds=2).results
    assert results["a"] == results["b"]
    assert len(set(results["a"])) == 3


def test_seconds_are_those_of_the_work() -> None:
    (slept,) = race("sleep", {"sleeper": lambda: time.sleep(0.02)}, rounds=1).seconds["sleeper"]
    assert slept >= 0.02


def test_the_processor_does_not_count_sleep_and_counts_children() -> None:
    contestants = {
        "sleeper": lambda: time.sleep(0.3),
        "child": lambda: subprocess.run([sys.executable, "-c", "sum(range(10**6))"], check=True),
    }
    seconds = race("clock", contestants, rounds=1, clock="processor").seconds
    assert seconds["sleeper"][0] < 0.2
    assert seconds["child"][0] > 0.005


def test_ratios_are_taken_round_by_round() -> None:
    seconds = {"a": [1.0, 2.0, 4.0], "b": [2.0, 8.0, 4.0]}
    assert ratio(seconds, "b", "a") == Spread(2.0, 1.0, 4.0)


def test_the_machine_has_limits() -> None:
    assert product_rate(torch.float32, size=64, budget=0.0) > 0
    assert bandwidth(megabytes=1, budget=0.0) > 0
    few, many = (product_seconds([(64, 64, 64)] * n, torch.float32, budget=0.0) for n in (1, 50))
    assert many > few
    assert product_seconds([], torch.float32) == pytest.approx(0)
