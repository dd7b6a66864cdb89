"""What many cards make of the paper's pre-training: counted, and as the README prints it."""

import re
from pathlib import Path

import pytest

from harmonylib import scaling
from harmonylib.cli import main

README = Path(__file__).resolve().parent.parent / "README.md"


def test_the_readme_prints_this_table():
    printed = re.search(r"<!-- scaling -->\n(.*?)\n<!-- /scaling -->", README.read_text(), re.DOTALL).group(1)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in printed.splitlines()]
    table = scaling.table([1, 8, 64], 0.48)
    assert rows[0] == list(table)
    assert rows[2:] == [[str(value) for value in row] for row in table.to_numpy()]


def test_cards_share_a_batch_and_its_steps():
    table = scaling.table([1, 8, 64], 0.5)
    own = table[table["batch"] == "192"]
    assert list(own["steps"]) == 3 * ["18,750"] + 3 * ["187,500"]
    assert list(own["a card"])[:3] == ["192 in 12", "24 in 2", "3 in 1"]
    assert set(own["rate"]) == {"0.027"}
    larger = table[table["batch"] == "1,024"]
    assert list(larger["rate"]) == 2 * ["0.14 or 0.062"]  # 2.7e-2 times 1024 / 192, and times its root
    hours = own["hours, H100"].astype(float)
    assert hours.iloc[0] / hours.iloc[1] == pytest.approx(8, rel=0.1)
    halved = scaling.table([1], 0.25)["hours, H100"].astype(float)
    assert halved.iloc[0] == pytest.approx(2 * hours.iloc[0], rel=0.1)


@pytest.mark.parametrize("words", [["--gpus", "0"], ["--gpus", "8", "--share", "1.5"]])
def test_numbers_that_no_card_has(words, capsys):
    assert main(["plan", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1
