"""The table of lines as one figure: how many times less, on a logarithmic axis, with the aim of each."""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

MOST = 60  # times; longer bars end here
OURS, SHORT, AIM = "#2a6f97", "#c1121f", "#222222"


def draw(table: pd.DataFrame, path: Path) -> None:
    """Write a bar a line: the ratio with its quartiles, a tick at the aim; lines that miss it are red."""
    rows = table.iloc[::-1].reset_index(drop=True)
    told = [f"{ratio:,.3g}x" if ratio < 1000 else f"{ratio:,.0f}x" for ratio in rows["ratio"]]
    rows[["ratio", "low", "high"]] = rows[["ratio", "low", "high"]].clip(upper=MOST)
    figure, axes = plt.subplots(figsize=(9, 0.36 * len(rows) + 1), layout="constrained")
    colours = [OURS if met else SHORT for met in rows["met"]]
    axes.barh(rows.index, rows["ratio"] - 1, left=1, color=colours, height=0.6)
    spread = [rows["ratio"] - rows["low"], rows["high"] - rows["ratio"]]
    axes.errorbar(rows["ratio"], rows.index, xerr=spread, fmt="none", ecolor="#555555", capsize=2, linewidth=1)
    axes.plot(rows["aim"], rows.index, "|", color=AIM, markersize=16, markeredgewidth=2)
    axes.set_xscale("log")
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlim(min(0.8, rows["low"].min() * 0.9), rows["high"].max() * 1.8)
    ticks = [tick for tick in (0.5, 1, 2, 5, 10, 20, 50, 100) if axes.get_xlim()[0] <= tick <= axes.get_xlim()[1]]
    axes.set_xticks(ticks, [f"{tick:g}x" for tick in ticks])
    axes.minorticks_off()
    axes.axvline(1, color="#888888", linewidth=1)
    for place, row in rows.iterrows():
        axes.text(max(row["high"], row["aim"]) * 1.06, place, told[place], va="center", fontsize=8)
    axes.set_yticks(rows.index, [f"{row.line}\nagainst {row.against}" for row in rows.itertuples()], fontsize=7)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.supxlabel("times less time (or memory) than the other way; black: the aim; whiskers: quartiles", fontsize=9)
    figure.suptitle(f"{table['device'].iloc[0]}, {table['threads'].iloc[0]} threads", fontsize=10)
    figure.savefig(path, dpi=150)
    plt.close(figure)
