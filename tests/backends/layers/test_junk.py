"""Junk in any place of a topology or manifest is read as something, or refused by an error of ours."""

from __future__ import annotations

import pytest

from nsfw_guard.backends.layers.graph import read_graph
from nsfw_guard.backends.layers.keras import read_keras
from nsfw_guard.backends.layers.layers_model import LayersNet
from nsfw_guard.backends.layers.literal import read_literal
from nsfw_guard.backends.layers.package import read_package
from nsfw_guard.backends.layers.topology import read_layers
from nsfw_guard.errors import NsfwGuardError
from tests.backends.layers.bundles import bundle, files, small
from tests.backends.layers.junk import spoiled
from tests.backends.layers.test_graph import graph
from tests.backends.layers.test_keras import tensors_of


def refused(read, cases) -> list[bool]:
    """For each case whether it was refused; any error but ours fails."""
    messages = []
    for path, value in cases:
        try:
            read(value)
        except NsfwGuardError as error:
            messages.append(str(error))
        except Exception as error:  # noqa: BLE001
            pytest.fail(f"{path}: {type(error).__name__}: {error}")
        else:
            messages.append("")
    assert not [message for message in messages if "\n" in message or len(message) > 1000]
    return [bool(message) for message in messages]


@pytest.mark.parametrize(("read", "draw"), [(read_keras, small), (read_graph, graph)])
def test_junk_in_a_topology(read, draw) -> None:
    topology, arrays = draw()
    tensors = tensors_of(arrays)
    outcomes = refused(lambda value: LayersNet(read(value, tensors)[0]), spoiled(topology))
    assert sum(outcomes) > len(outcomes) / 2


def test_junk_in_the_layers_of_a_folder() -> None:
    topology, arrays = small()
    layers = [layer.as_json() for layer in read_keras(topology, tensors_of(arrays))[0]]
    outcomes = refused(lambda value: LayersNet(read_layers(value)), spoiled(layers))
    assert sum(outcomes) > len(outcomes) / 2


def test_junk_in_a_manifest() -> None:
    _, arrays = small()
    given = files({}, {name: arrays[name] for name in list(arrays)[:4]}, "uint8")
    model = read_literal(given["model.min.js"], "model.min.js")
    outcomes = refused(lambda value: read_package({**given, "model.min.js": bundle(value)}), spoiled(model))
    assert sum(outcomes) > len(outcomes) / 2
