"""Programs for the stack machine that try to run, point, hang or swell."""

import pickle
import time
import tracemalloc
from typing import Any

import numpy as np
import pytest

from carso.data import pickles
from carso.data.reading import decoding
from carso.errors import DataError

PIXELS = np.arange(6, dtype=np.uint8).reshape(2, 3)


def text(value: str) -> bytes:
    return b"X" + len(value.encode()).to_bytes(4, "little") + value.encode()


def raw(value: bytes) -> bytes:
    return b"B" + len(value).to_bytes(4, "little") + value


def name(module: str, function: str) -> bytes:
    return f"c{module}\n{function}\n".encode()


HOLLOW = name("numpy.core.multiarray", "_reconstruct") + name("numpy", "ndarray") + b"K\x00\x85" + raw(b"b") + b"\x87R"
BYTE = name("numpy", "dtype") + text("u1") + b"K\x00K\x01\x87R"
OBJECT = name("numpy", "dtype") + text("O8") + b"K\x00K\x01\x87R"


def with_state(shape: bytes, dtype: bytes, values: bytes) -> bytes:
    return HOLLOW + b"(K\x01" + shape + dtype + b"\x89" + values + b"tb"


def refused(program: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message), decoding():
        pickles.unpickle(program)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("keys", ["text", b"bytes"])
def test_reads_what_python_writes(protocol: int, keys: str | bytes) -> None:
    given = {keys: PIXELS, "numbers": [0, 1, 255, 256, 70_000, -1, 2**40], "nested": [[], [1, (2, 3), {"a": None}]]}
    read = pickles.unpickle(pickle.dumps(given, protocol=protocol))
    np.testing.assert_array_equal(read.pop("text" if keys == "text" else "bytes"), PIXELS)
    assert read == {"numbers": given["numbers"], "nested": given["nested"]}


@pytest.mark.parametrize("value", [True, False, None, b"\0\xff", "é", (), (1,), (1, 2, 3, 4), []])
@pytest.mark.parametrize("protocol", range(6))
def test_reads_every_plain_value(value: Any, protocol: int) -> None:
    assert pickles.unpickle(pickle.dumps({"key": value}, protocol=protocol)) == {"key": value}


def test_an_array_is_made_by_hand() -> None:
    array = with_state(b"K\x02K\x03\x86", BYTE, raw(bytes(6)))
    read = pickles.unpickle(b"}" + text("data") + array + b"s.")
    np.testing.assert_array_equal(read["data"], np.zeros((2, 3), np.uint8))


def test_a_crafted_type_makes_no_pointers() -> None:
    """Eight plain bytes whose state says that they are an object: numpy follows them (exit status 139)."""
    plain = name("numpy", "dtype") + text("V8") + b"K\x00K\x01\x87R"
    fields = b"}" + text("a") + OBJECT + b"K\x00\x86s"
    crafted = plain + b"(K\x03" + text("|") + b"N" + text("a") + b"\x85" + fields + b"K\x08K\x01K\x00tb"
    array = with_state(b"K\x02\x85", crafted, raw(b"\x41" * 16))
    assert pickles.unpickle(b"}" + text("data") + array + b"s.") == {"data": None}


def test_a_state_that_turns_bytes_into_objects_is_never_given_to_numpy() -> None:
    state = b"(K\x03" + text("|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3ftb"
    array = with_state(b"K\x02\x85", BYTE + state, raw(b"\x41\x42"))
    read = pickles.unpickle(b"}" + text("data") + array + b"s.")
    assert read["data"].dtype == np.uint8
    assert read["data"].tolist() == [0x41, 0x42]


@pytest.mark.parametrize(
    "shape", [b"K\x07\x85", b"J\xff\xff\xff\xff\x85", b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86", b"K\x02", b"\x88\x85"]
)
def test_a_shape_that_does_not_hold_the_bytes_is_refused(shape: bytes) -> None:
    refused(b"}" + text("data") + with_state(shape, BYTE, raw(bytes(6))) + b"s.", "is damaged")


def test_nested_tuples_as_a_key_do_not_hang() -> None:
    """Each holds the one before twice, so that hashing the last takes 2 ** 60 steps."""
    start = time.monotonic()
    twice = (b"h" + bytes([at]) + b"h" + bytes([at]) + b"\x86q" + bytes([at + 1]) for at in range(60))
    program = b")q\x00" + b"".join(twice) + b"}h\x3cK\x01s."
    refused(program, "has a tuple for a key, which no set of images needs; do not trust")
    assert time.monotonic() - start < 1


@pytest.mark.parametrize("key", [b"K\x01", b"N", b")", HOLLOW])
def test_keys_are_text(key: bytes) -> None:
    refused(b"}" + key + b"K\x01s.", "for a key")


def test_a_long_key_is_not_made_again_and_again() -> None:
    program = raw(b"x" * 10_000_000) + b"q\x00}" + b"h\x00K\x01s" * 100_000
    refused(program + b".", "has a key of 10,000,000 letters, which no set of images needs; do not trust")


def test_the_memory_is_as_large_as_what_is_put_there() -> None:
    tracemalloc.start()
    assert pickles.unpickle(b"}r\xff\xff\xff\x7f.") == {}
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


@pytest.mark.parametrize(
    "promise", [b"B" + b"\xff" * 4, b"\x8e" + b"\xff" * 7 + b"\x0f", b"\x96" + b"\xff" * 7 + b"\x0f"]
)
def test_bytes_that_do_not_follow_are_not_waited_for(promise: bytes) -> None:
    tracemalloc.start()
    refused(b"}" + promise + b"short", "is damaged")
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_bytes_are_not_made_again_and_again() -> None:
    encode = name("_codecs", "encode") + b"q\x00"
    program = encode + text("x" * 100_000) + b"q\x01" + text("latin1") + b"q\x02\x86R"
    refused(program + b"h\x00h\x01h\x02\x86R" * 1000 + b".", "makes more bytes than it holds")


def test_a_program_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "STEPS", 1000)
    refused(b"]" * 1001 + b".", "goes on for more than 1,000 instructions")
    assert pickles.unpickle(b"]" * 999 + b".") == []


@pytest.mark.parametrize(
    ("module", "function"),
    [
        ("os", "system"),
        ("builtins", "eval"),
        ("numpy", "load"),
        ("numpy.core.multiarray", "scalar"),
        ("numpy._core", "multiarray._reconstruct"),
        ("_codecs", "decode"),
    ],
)
def test_names_that_are_not_numpys_are_refused(module: str, function: str) -> None:
    refused(name(module, function) + b".", f"asks to run '{module}.{function}'.*do not trust")
    refused(text(module) + text(function) + b"\x93.", f"asks to run '{module}.{function}'")


def test_a_long_name_is_cut() -> None:
    with pytest.raises(DataError) as caught, decoding():
        pickles.unpickle(text("m" * 100_000) + text("f") + b"\x93.")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("program", "instruction"),
    [
        (b"(i__main__\nX\n.", "INST"),
        (b"(" + name("numpy", "ndarray") + b"o.", "OBJ"),
        (name("numpy", "ndarray") + b")\x81.", "NEWOBJ"),
        (b"Pid\n.", "PERSID"),
        (b"\x82\x01.", "EXT1"),
        (b"\x97.", "NEXT_BUFFER"),
        (b"\x8f.", "EMPTY_SET"),
    ],
)
def test_other_instructions_are_refused(program: bytes, instruction: str) -> None:
    refused(program, f"has the instruction {instruction}, which no set of images needs; do not trust")


@pytest.mark.parametrize(
    "program",
    [b"", b".", b"]", b"a.", b"t.", b"}K\x01R.", b"h\x05.", b"}Nb.", b"NNa.", b"N(NNu.", b"}(Nu.", b"I1e9\n."],
)
def test_a_program_that_makes_no_sense_is_damaged(program: bytes) -> None:
    refused(program, "^is damaged")
