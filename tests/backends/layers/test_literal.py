"""The literal of an untrusted file: data is read as JavaScript reads it, all else is refused, and nothing is run."""

from __future__ import annotations

import time

import pytest

from nsfw_guard.backends.layers import literal
from nsfw_guard.backends.layers.literal import read_literal
from nsfw_guard.errors import WeightsUnfitError
from tests.backends.layers.bundles import HEAD, TAIL, bundle


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{a:!0,b:!1,c:null,$d_1:true}", {"a": True, "b": False, "c": None, "$d_1": True}),
        ('{"a b":[],c:{}}', {"a b": [], "c": {}}),
        ("[.5,-.25,1e3,2.0,-0,12,1.5e-3]", [0.5, -0.25, 1000, 2, 0, 12, 0.0015]),
        (r'["a\"b","\u0041\x42\n\\"]', ['a"b', "AB\n\\"]),
        ("['it\\'s \"so\"']", ['it\'s "so"']),
        (' [ 1 ,\n"x" ] ', [1, "x"]),
    ],
)
def test_data_is_read(text, value) -> None:
    assert read_literal(bundle(text), "x.js") == value
    assert read_literal(text.strip().encode(), "x.js") == value


@pytest.mark.parametrize(
    "text",
    [
        "function(){}", "a()", "{a:b}", "{a:x.y}", "[1+1]", "`a`", "{get a(){}}", "{...a}", "{[a]:1}", "new Date",
        "[1,]", "{a:1,}", "[,1]", "[1 2]", "{a 1}", "{1:2}", "01", "0x10", "1n", "NaN", "Infinity", "-Infinity",
        "1e999", "undefined", "void 0", "!2", "!!1", "-!0",
        '"a', '"a\nb"', r'"\u12"', r'"\q"', "{a:1", "[1", "", "/x/", "//\n1",
        "{a:1,a:2}", "{__proto__:{}}", '{"__proto__":1}', "1;alert(1)", "[1];", "9" * 60, "import('x')",
    ],
)  # fmt: skip
def test_code_and_what_is_no_data_are_refused_in_one_line(text) -> None:
    for data in (bundle(text), text.encode(), f"{HEAD}{text}".encode()):
        with pytest.raises(WeightsUnfitError, match=r"^x\.js .*again$") as raised:
            read_literal(data, "x.js")
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "data",
    [
        f"{HEAD}{{}}{TAIL}alert(1)", f"{HEAD}{{}};alert(1){TAIL}", f"{HEAD}{{}},n.x=1{TAIL}", f"{HEAD}{{}}",
        f"alert(1);{'x' * 5000}{HEAD}{{}}{TAIL}", "({1:[function(e,a,n){n.exports={}},{}]},{},[1])(1)});",
    ],
)  # fmt: skip
def test_a_bundle_with_more_than_one_module_of_data_is_refused(data) -> None:
    with pytest.raises(WeightsUnfitError):
        read_literal(data.encode(), "x.js")


def test_depth_count_and_size_are_limited(monkeypatch) -> None:
    assert read_literal(("[" * 32 + "]" * 32).encode(), "x.js")
    with pytest.raises(WeightsUnfitError, match="more than 32 levels"):
        read_literal(("[" * 100_000).encode(), "x.js")
    with pytest.raises(WeightsUnfitError, match="more than 32 levels"):
        read_literal(('{"a":' * 40).encode(), "x.js")
    with pytest.raises(WeightsUnfitError, match="more than 200000 values"):
        read_literal(("[" + "0," * 300_000 + "0]").encode(), "x.js")
    monkeypatch.setattr(literal, "MAX_CHARS", 10)
    with pytest.raises(WeightsUnfitError, match="larger than"):
        read_literal(b"[1,2,3,4,5,6]", "x.js")


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(WeightsUnfitError, match="not UTF-8"):
        read_literal(b'"\xff"', "x.js")


@pytest.mark.parametrize("text", ['"' + "a" * 2_000_000, '"' + "\\a" * 500_000, "-" * 500_000, "e" * 2_000_000])
def test_a_long_file_takes_linear_time(text) -> None:
    before = time.perf_counter()
    with pytest.raises(WeightsUnfitError):
        read_literal(text.encode(), "x.js")
    assert time.perf_counter() - before < 2


def test_the_escapes_of_a_string_are_limited() -> None:
    assert read_literal(('"a' + "\\n" * literal.MAX_ESCAPES + '"').encode(), "x.js") == "a" + "\n" * literal.MAX_ESCAPES
    for mark in "\"'":
        with pytest.raises(WeightsUnfitError, match="where a value was expected"):
            read_literal((mark + "\\n" * (literal.MAX_ESCAPES + 1) + mark).encode(), "x.js")
