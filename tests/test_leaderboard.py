"""Other people's outputs, ranks under one protocol, and scores from votes."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from harmonylib import cli, evaluation, leaderboard, votes
from harmonylib.data.layout import read_entries


@pytest.fixture
def outputs(tiny_set, tmp_path):
    """A folder of outputs: every test composite halfway to its target."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    for entry in read_entries(tiny_set, "all", "test"):
        pictures = [np.asarray(Image.open(path).convert("RGB"), float) for path in (entry.composite, entry.real)]
        Image.fromarray(np.mean(pictures, 0).round().astype(np.uint8)).save(folder / f"{entry.name}.png")
    return folder


def evaluate(tiny_set, out, *methods, protocol=("bcmi256",)):
    words = ["evaluate", "--data", str(tiny_set), "--size", "32", "--out", str(out)]
    assert cli.main([*words, "--method", *map(str, methods), "--protocol", *protocol]) == 0
    return out


class TestOutputs:
    def test_their_rows_are_those_of_the_pictures(self, tiny_set, outputs):
        entries = read_entries(tiny_set, "all", "test")
        theirs = evaluation.evaluate_outputs(outputs, entries, "fullres")
        nothing = evaluation.evaluate(evaluation.baseline("identity"), entries, "fullres")
        assert list(theirs["name"]) == list(nothing["name"])
        np.testing.assert_allclose(theirs["fmse"], nothing["fmse"] / 4, rtol=0.1)

    def test_one_is_missing(self, tiny_set, outputs, refused):
        next(outputs.iterdir()).unlink()
        with refused("no output", outputs):
            evaluation.evaluate_outputs(outputs, read_entries(tiny_set, "all", "test"))

    def test_one_has_another_size(self, tiny_set, outputs, refused):
        path = next(outputs.iterdir())
        Image.open(path).resize((9, 9)).save(path)
        with refused(path.name, "9x9"):
            evaluation.evaluate_outputs(outputs, read_entries(tiny_set, "all", "test"), "fullres")


class TestRanks:
    def test_from_outputs_to_a_row_of_the_table(self, tiny_set, outputs, tmp_path, capsys):
        rows = evaluate(tiny_set, tmp_path / "rows.csv", "identity", "histogram", outputs)
        capsys.readouterr()
        assert cli.main(["leaderboard", str(rows)]) == 0
        told = capsys.readouterr().out
        assert told.index("theirs") < told.index("identity") and "under bcmi256@32" in told
        assert leaderboard.UNSTATED in told and "dovenet" in told
        table = leaderboard.ranked(leaderboard.under(leaderboard.read([rows]), None))
        assert table["method"].iloc[0] == str(outputs) and table["fmse"].is_monotonic_increasing
        share = float(table["share of doing nothing"][0].split()[0])
        idle = table.set_index("method")["fmse"]
        assert share == pytest.approx(idle[str(outputs)] / idle["identity"], rel=1e-3)
        assert table["share improved"][0] == "1 [1, 1]"

    def test_protocols_do_not_mix(self, tiny_set, tmp_path, capsys):
        rows = evaluate(tiny_set, tmp_path / "rows.csv", "identity", protocol=("bcmi256", "idih256"))
        capsys.readouterr()
        assert cli.main(["leaderboard", str(rows)]) == 2
        assert "do not mix" in capsys.readouterr().err
        assert cli.main(["leaderboard", str(rows), "--protocol", "idih256@32"]) == 0
        assert cli.main(["leaderboard", str(rows), "--protocol", "ht256"]) == 2

    def test_methods_on_other_pictures(self, tiny_set, tmp_path, refused):
        rows = pd.read_csv(evaluate(tiny_set, tmp_path / "rows.csv", "identity", "reinhard"))
        with refused("not scored on the same pictures"):
            leaderboard.ranked(rows.drop(index=len(rows) - 1))

    def test_no_rows_to_rank(self, tiny_set, tmp_path, refused):
        rows = pd.read_csv(evaluate(tiny_set, tmp_path / "rows.csv", "identity"))
        with refused("no rows of nowhere"):
            leaderboard.ranked(rows, "nowhere")
        with refused("no rows"):
            leaderboard.ranked(rows[:0])

    def test_two_runs_under_one_name(self, tiny_set, tmp_path, refused):
        first = evaluate(tiny_set, tmp_path / "a.csv", "identity")
        assert len(leaderboard.read([first, first])) == len(pd.read_csv(first))
        other = pd.read_csv(first).assign(fmse=1.0)
        other.to_csv(tmp_path / "b.csv", index=False)
        with refused("two scores"):
            leaderboard.read([first, tmp_path / "b.csv"])

    @pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "\0\0"])
    def test_no_rows(self, tmp_path, content, capsys):
        (tmp_path / "rows.csv").write_text(content)
        assert cli.main(["leaderboard", str(tmp_path / "rows.csv")]) == 2
        assert capsys.readouterr().err.count("\n") == 1

    @pytest.mark.parametrize("many", ["method", "subset"])
    def test_too_many(self, many, refused):
        rows = pd.DataFrame({"method": "a", "subset": "b", "protocol": "c", many: range(leaderboard.RANKS + 1)})
        with refused(f"{leaderboard.RANKS + 1:,}", "at most"):
            leaderboard.under(rows, None)


TRUTH = {"ours": 1.0, "theirs": 0.0, "nothing": -1.0}  # Bradley-Terry scores


class TestVotes:
    @pytest.fixture
    def cast(self):
        """Four thousand votes on 200 pictures, drawn from the model itself."""
        rng, rows = np.random.default_rng(0), []
        for number in range(4000):
            a, b = rng.choice(list(TRUTH), 2, replace=False)
            first = rng.random() < 1 / (1 + np.exp(TRUTH[b] - TRUTH[a]))
            rows.append((*((a, b) if first else (b, a)), f"p{number % 200}"))
        return pd.DataFrame(rows, columns=["winner", "loser", "picture"])

    def test_the_truth_is_found(self, cast):
        table = votes.scores(cast).set_index("method")
        assert list(table.index) == list(TRUTH)
        for name, truth in TRUTH.items():
            assert table.loc[name, "low"] < truth < table.loc[name, "high"]
            assert table.loc[name, "score"] == pytest.approx(truth, abs=0.12)
        assert table["score"].mean() == pytest.approx(0, abs=1e-9)

    def test_one_that_never_lost(self):
        table = votes.scores(pd.DataFrame({"winner": ["a"] * 9, "loser": ["b"] * 9, "picture": list("xyzxyzxyz")}))
        assert np.isfinite(table[["score", "low", "high"]]).all(axis=None) and table["method"][0] == "a"

    def test_never_compared(self, refused):
        with refused("never compared"):
            votes.scores(pd.DataFrame({"winner": ["a", "c"], "loser": ["b", "d"]}))

    def test_resamples_in_blocks_are_those_drawn_at_once(self, cast, monkeypatch):
        whole = votes.scores(cast)
        monkeypatch.setattr(votes, "BLOCK", 200 * 7)
        pd.testing.assert_frame_equal(votes.scores(cast), whole)

    @pytest.mark.parametrize("count, links", [(votes.PICTURES + 1, 1), (1, votes.METHODS)])
    def test_too_many(self, count, links, refused):
        rows = [(f"m{i}", f"m{i + 1}") for i in range(links)] * count
        with refused("too many to compare", "at most"):
            votes.scores(pd.DataFrame(rows, columns=["winner", "loser"]))

    def test_no_scores(self, refused):
        """A long chain, and nearly all votes are of its first link."""
        rows = [(f"m{i}", f"m{i + 1}") for i in range(99)] + 3000 * [("m0", "m1")]
        with refused("no scores of 100 methods", "compare more pairs"):
            votes.scores(pd.DataFrame(rows, columns=["winner", "loser"]))

    @pytest.mark.parametrize(
        "content", ["", "winner\na\n", "winner,loser\n", "winner,loser\na,a\n", "winner,loser\na,\n", "\0"]
    )
    def test_no_votes(self, tmp_path, content, capsys):
        (tmp_path / "v.csv").write_text(content)
        assert cli.main(["votes", str(tmp_path / "v.csv")]) == 2
        assert capsys.readouterr().err.count("\n") == 1

    def test_the_command(self, cast, tmp_path):
        cast.to_csv(tmp_path / "v.csv", index=False)
        assert cli.main(["votes", str(tmp_path / "v.csv"), "--out", str(tmp_path / "s.csv")]) == 0
        assert list(pd.read_csv(tmp_path / "s.csv")["method"]) == list(TRUTH)
