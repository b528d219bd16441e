"""What only the store on a Milvus server has: addresses, a token, and lengths."""

from __future__ import annotations

import pytest
import torch

from nsfw_guard.errors import ConfigError
from nsfw_guard.tools.similarity.milvus import FACT_BYTES, KEY_BYTES, MOST, TOKEN, MilvusStore

pytest.importorskip("pymilvus")
ORIGIN = {"model": "m", "revision": "r", "width": 4}


@pytest.mark.parametrize(
    "address",
    [
        "ftp://127.0.0.1:19530", "http://", "http://127.0.0.1:1?collection=a-b", "http://127.0.0.1:1?collection=",
        "http://127.0.0.1:1?colection=a", "http://127.0.0.1:1?collection=1a", "sqlite://x",
    ],
)  # fmt: skip
def test_addresses_that_are_none(address: str) -> None:
    for ask in (MilvusStore.open, lambda place: MilvusStore.create(place, **ORIGIN)):
        with pytest.raises(ConfigError, match="is written as http://HOST:PORT"):
            ask(address)


def test_no_password_stands_in_an_address_or_a_message() -> None:
    with pytest.raises(ConfigError, match=f"put the token into the variable {TOKEN}") as raised:
        MilvusStore.open("http://root:secret@127.0.0.1:1")
    assert "secret" not in str(raised.value)


def test_a_server_that_does_not_answer_is_one_line_without_the_token(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(TOKEN, "root:secret")
    monkeypatch.setattr("nsfw_guard.tools.similarity.milvus._CONNECT", 1.0)
    with pytest.raises(ConfigError, match="cannot be reached") as raised:
        MilvusStore.open("http://127.0.0.1:1")
    assert "secret" not in str(raised.value)
    assert raised.value.__cause__ is None
    said = capfd.readouterr()
    assert "secret" not in said.out + said.err


def test_long_keys_and_facts_are_refused_by_name(server: str) -> None:
    store = MilvusStore.create(f"{server}?collection=long", **ORIGIN)
    longest = "é" * (KEY_BYTES // 2)
    store.add([longest], torch.ones(1, 4), [{"category": "x" * FACT_BYTES}])
    assert store.search(torch.ones(1, 4))[0][0].key == longest
    with pytest.raises(ConfigError, match=f"has {KEY_BYTES + 1} bytes, of which Milvus keeps {KEY_BYTES}"):
        store.add(["a", longest + "x"], torch.ones(2, 4), [{}, {}])
    with pytest.raises(ConfigError, match="the category 'xxx"):
        store.add(["a"], torch.ones(1, 4), [{"category": "x" * (FACT_BYTES + 1)}])
    with pytest.raises(ConfigError, match="control characters"):
        store.add(["a"], torch.ones(1, 4), [{"category": "\x01"}])
    with pytest.raises(ConfigError, match=f"k must be at most {MOST}"):
        store.search(torch.ones(1, 4), k=MOST + 1)
    assert store.count == 1
    store.close()


def test_a_collection_of_another_program_is_no_index(server: str) -> None:
    from pymilvus import MilvusClient

    client = MilvusClient(server)
    client.create_collection("foreign", dimension=4)
    client.close()
    with pytest.raises(ConfigError, match="holds no index in 'foreign'"):
        MilvusStore.open(f"{server}?collection=foreign")
    with pytest.raises(ConfigError, match="is there already"):
        MilvusStore.create(f"{server}?collection=foreign", **ORIGIN)
