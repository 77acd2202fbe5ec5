"""``fastpose models``: columns, filters, JSON, and the page that is made of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

import fastpose
from fastpose.cli import main
from fastpose.cli.model_table import build_table
from fastpose.cli.models import _TOPICS
from fastpose.models import list_entries
from fastpose.models.zoo import TOPICS

DOCS = Path(__file__).resolve().parents[2] / "docs"


def call(*words):
    return CliRunner().invoke(main, ["models", *words], catch_exceptions=False)


def names(*words):
    return call("--names", *words).stdout.split()


def test_the_page_is_up_to_date():
    written = (DOCS / "models.md").read_text(encoding="utf-8")
    assert call("--markdown").stdout == written, "fastpose models --markdown > docs/models.md"
    for entry in list_entries():
        assert f"| `{entry.name}` |" in written


def test_json_says_all_of_an_entry():
    (facts,) = json.loads(call("--json", "rtmpose_m.mpii_256x256").stdout)
    entry = fastpose.models.find_entry("rtmpose_m.mpii_256x256")
    assert facts == {
        "name": entry.name,
        "alias": "rtmpose-m_8xb64-210e_mpii-256x256",
        "architecture": "rtmpose_m",
        "topic": "body",
        "skeleton": "mpii16",
        "keypoints": 16,
        "input_size": [256, 256],
        "parameters": entry.parameters,
        "gflops": entry.gflops,
        "metrics": {"Mean": 0.907, "Mean@0.1": 0.348},
        "weights": dict(entry.weights),
        "weights_licence": "Apache-2.0",
        "dataset": "mpii",
        "starts_from": "coco_aic",
        "data_terms": "non-commercial",
        "data_sets": {
            "mpii": "non-commercial; labels for research",
            "coco": "labels CC BY 4.0; photos as on Flickr",
            "aic": "unknown; none in its README",
        },
    }
    assert [facts["name"] for facts in json.loads(call("--json").stdout)] == fastpose.list_models("*.*")


def test_filters():
    assert names("--topic", "hand") == sorted(entry.name for entry in list_entries() if entry.topic == "hand")
    few = names("*.coco_256x192", "--max-gflops", "0.5", "--sort", "gflops")
    gflops = [fastpose.models.find_entry(name).gflops for name in few]
    assert few[0] == "litehrnet18.coco_256x192"
    assert gflops == sorted(gflops)
    assert max(gflops) <= 0.5
    assert set(names("--with-weights")) == {entry.name for entry in list_entries() if entry.weights}
    by_parameters = names("hrnet_w*", "--sort", "parameters")
    assert sorted(by_parameters) == sorted(fastpose.list_models("hrnet_w*.*"))
    assert by_parameters[0].startswith("hrnet_w32")
    assert "hrnet_w32\n" not in call("--sort", "gflops", "hrnet_w32*").stdout  # architectures have no figures
    assert _TOPICS == TOPICS


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--topic", "hands"), "'hands' is not one of"),
        (("--max-gflops", "0"), "0.0 is not in the range x>0"),
        (("vitpose*", "--topic", "hand"), "of 12 models whose name fits 'vitpose*' none fits the options"),
        (("--json", "--markdown"), "expected one of --names, --json and --markdown"),
    ],
)
def test_what_cannot_be(words, said):
    result = call(*words)
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_pipe_gets_all_columns_and_the_note():
    lines = call().stdout.splitlines()
    assert lines[0].split() == [
        *("model", "topic", "kpts", "input", "GFLOPs", "params", "published", "weights", "training", "data")
    ]
    assert sum(" non-commercial" in line for line in lines[1:374]) > 100
    assert any("No legal advice" in line for line in lines[374:])


@pytest.mark.parametrize(
    ("width", "left_out"),
    [(140, ()), (120, ("input", "topic")), (90, ("input", "topic", "weights", "kpts", "params"))],
)
def test_a_terminal_gets_whole_names(width, left_out):
    entries = list_entries()
    table = build_table(entries, width)
    titles = [str(column.header) for column in table.columns]
    assert set(titles).isdisjoint(left_out)
    assert {"model", "GFLOPs", "published", "training data"} <= set(titles)
    console = Console(width=400)
    with console.capture() as capture:
        console.print(table)
    lines = capture.get().splitlines()
    assert [line.split()[0] for line in lines[1:]] == [entry.name for entry in entries]
    if width >= 120:
        assert max(map(len, lines)) <= width
