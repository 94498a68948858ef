"""The page of a comparison over seeds: tables, ranks, and which of the paper's orders came out, all from the figures."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from paper_studies import Claim, Comparison, Study
from perturbations import ASCENTS, SHARE

from napari_unroll.environment import machine

Figures = dict[str, Any]
GIGABYTES = (8, 10, 24)
MEANT = {"psnr": ("PSNR", "dB"), "lost": ("PSNR lost at worst", "dB"), "seconds": ("CPU seconds per slice", "s")}
"""What of a row a claim is about: in words, and its unit."""
VERDICTS = ("reproduced", "undecided", "not reproduced", "untested")
LEARNED = 0.5
"""dB on the scans of the validation that training must have added to a network for its PSNR to say anything of its method."""


def page(paper: str, study: Study, settings: Figures, rows: list[Figures], costs: list[Figures]) -> str:
    """The whole page as Markdown."""
    lines = [f"# {study.title}", "", *study.about, ""]
    lines += _setting(study, settings, rows)
    options = " ".join(f"--{name} {value}" for name, value in settings.items())
    lines += [f"Written on {machine()} by", f"`python benchmarks/papers.py --paper {paper} {options}`.", ""]
    tables = [(table, [row for row in rows if row["table"] == table.name]) for table in study.comparisons]
    lines += [
        "## Which of the paper's orders came out", "",
        "An order of two methods is reproduced where all complete seeds agree with the paper, and not where none does. It is",
        f"untested where training added less than {LEARNED} dB to one of the two networks, or changed their difference by less",
        "than it was before training: then it is an order of beginnings. These rules were made after the first figures had shown",
        "such networks; the tables below have every difference.", "",
        f"| table | by | orders of two | seeds | {' | '.join(VERDICTS)} |", "|---" * (4 + len(VERDICTS)) + "|",
    ]  # fmt: skip
    lines += [line for table, own in tables for line in _outcome(table, own)]
    lines += [*_memory_outcome(study, costs), ""]
    for table, own in tables:
        lines += _table(table, own, settings["seeds"])
    return "\n".join([*lines, *_memory(study, costs)])


def _setting(study: Study, settings: Figures, rows: list[Figures]) -> list[str]:
    sizes = ", ".join(dict.fromkeys(f"{plan['patch'][-1]}²" for plan in study.plans.values()))
    granted = {name: 60 * settings["minutes"] * plan.get("share", 1.0) for name, plan in study.plans.items()}
    budgets = " and ".join(f"{seconds:.0f} s" for seconds in dict.fromkeys(granted.values()))
    seconds = [row["trained_seconds"] for row in rows if "trained_seconds" in row]
    spent = f" (measured: {min(seconds):.0f} to {max(seconds):.0f} s)" if seconds else ""
    rate, warmup, ema = (study.options[name] for name in ("learning_rate", "warmup", "ema"))
    return [
        f"Ours: generated slices of {sizes} voxels; every network has {budgets} of one CPU core for its",
        f"training{spent}, validation included, from the start Aᴴy or y, with a quarter of the paper's channels.",
        f"Adam at {rate:g} after {warmup} steps of warm-up, weights averaged with {ema:g}, the same for all.",
        f"{settings['seeds']} seeds of weights and patches; {settings['n']} held-out scans, the same for all. Means ± standard",
        "deviation over seeds. That is dozens to hundreds of steps where the papers take days of a GPU, and what takes",
        "longer per step got fewer. Others computed on the same cores meanwhile, which makes seconds of the CPU longer, too.",
        "",
    ]  # fmt: skip


def _table(table: Comparison, rows: list[Figures], n_seeds: int) -> list[str]:
    """One table and what became of the paper's order in it."""
    heads = ["method", "PSNR", "SSIM", *(["the paper's"] if table.published else []), "rank by seed"]
    heads += ["CPU s per slice", "steps", "CPU s per step", "validation: untrained", "trained"]
    heads += ["lost to noise", "lost at worst"] if table.perturbed else []
    lines = [f"## {table.title}", "", *_about(table), "| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    ranks = ranked(rows, table)
    for method in (*table.classical, *table.networks):
        own = [row for row in rows if row["method"] == method]
        if own:
            lines.append("| " + " | ".join(_cells(method, own, table, ranks)) + " |")
    seeds = complete_seeds(rows, table)
    if len(seeds) < n_seeds:
        lines += ["", f"{len(seeds)} of {n_seeds} seeds are complete; ranks and what follows are of those."]
    return [*lines, "", *_claims(table, rows, seeds)]


def _about(table: Comparison) -> list[str]:
    lines = [
        "PSNR in dB. Networks begin with the first row. Ranks are among the trained methods, one per seed. Validation: PSNR on",
        "other scans than those of the table, before training and of the best network after it.",
    ]
    if table.published:
        lines.append(f"The paper's PSNR and SSIM: {table.source}, the better of final and auxiliary loss.")
    if table.perturbed:
        lines.append(
            f"Lost: dB of PSNR when {100 * SHARE:g} % of the measurements' norm is added, as Gaussian noise, or as the worst"
        )
        lines.append(
            f"that {ASCENTS} steps of gradient ascent through the network find. What is poor to begin with has little to lose."
        )
    return [*lines, ""]


def _cells(method: str, own: Sequence[Figures], table: Comparison, ranks: dict[str, list[int]]) -> list[str]:
    def mean(name: str, form: str) -> str:
        values = [row[name] for row in own if name in row]
        return form.format(fmean(values)) if values else ""

    cells = [f"`{method}`", _spread(own, "psnr", 2), _spread(own, "ssim", 3)]
    if table.published:
        found = table.published.get(method)
        cells.append(f"{found[0]:.2f} / {found[1]:.3f}" if found else "")
    cells.append(", ".join(map(str, ranks.get(method, []))))
    cells += [mean("seconds", "{:.2f}"), mean("trained_steps", "{:.0f}"), mean("trained_seconds_per_step", "{:.2f}")]
    cells += [mean("trained_psnr_untrained", "{:.2f}"), mean("trained_psnr", "{:.2f}")]
    return [*cells, *((_spread(own, "lost_noise", 2), _spread(own, "lost", 2)) if table.perturbed else ())]


def _spread(rows: Sequence[Figures], name: str, digits: int) -> str:
    values = [row[name] for row in rows if name in row]
    if not values:
        return ""
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{fmean(values):.{digits}f}{spread}"


def complete_seeds(rows: Sequence[Figures], table: Comparison) -> list[int]:
    """The seeds for which every network was trained."""
    seeds = sorted({row["seed"] for row in rows if row["method"] in table.networks})
    done = {(row["method"], row["seed"]) for row in rows}
    return [seed for seed in seeds if all((method, seed) in done for method in table.networks)]


def ranked(rows: Sequence[Figures], table: Comparison) -> dict[str, list[int]]:
    """method → its rank by PSNR among the networks, for every complete seed."""
    ranks: dict[str, list[int]] = {}
    for seed in complete_seeds(rows, table):
        found = {row["method"]: row["psnr"] for row in rows if row["seed"] == seed and row["method"] in table.networks}
        for rank, method in enumerate(sorted(found, key=lambda m: -found[m]), start=1):
            ranks.setdefault(method, []).append(rank)
    return ranks


def _outcome(table: Comparison, rows: Sequence[Figures]) -> list[str]:
    """A line for everything that the paper compares: which of its orders of two were reproduced, and which not."""
    seeds, lines = complete_seeds(rows, table), []
    for what in dict.fromkeys(claim.what for claim in table.claims):
        claims = [claim for claim in table.claims if claim.what == what]
        found = [(outcome(c, rows, seeds), c.better, c.worse) for c in claims] if seeds else []
        lines.append(f"| {table.title} | {MEANT[what][0]} | {len(claims)} | {len(seeds)} | {_sorted(found)} |")
    return lines


def _claims(table: Comparison, rows: Sequence[Figures], seeds: Sequence[int]) -> list[str]:
    """Pair by pair."""
    if not table.claims or not seeds:
        return []
    lines = [
        f"By chance all of {len(seeds)} seeds would agree on one order of {2 ** len(seeds)}.", "",
        "| the paper: ahead | behind | by | source | seeds that agree | ours: ahead by | |", "|---" * 7 + "|",
    ]  # fmt: skip
    for claim in table.claims:
        gains = differences(claim, rows, seeds)
        agree, (name, unit) = sum(gain > 0 for gain in gains), MEANT[claim.what]
        lines.append(
            f"| `{claim.better}` | `{claim.worse}` | {name} | {claim.source} | {agree} of {len(gains)} "
            f"| {fmean(gains):+.2f} {unit} | {outcome(claim, rows, seeds)} |"
        )
    return [*lines, ""]


def differences(claim: Claim, rows: Sequence[Figures], seeds: Sequence[int]) -> list[float]:
    """By how much ``better`` is ahead of ``worse``, for every seed: more dB of PSNR, or less lost, or fewer seconds."""

    def value(method: str, seed: int) -> float:
        own = [row for row in rows if row["method"] == method]
        row = next((row for row in own if row["seed"] == seed), own[0])
        return float(row["psnr"] if claim.what == "psnr" else -row[claim.what])

    return [value(claim.better, seed) - value(claim.worse, seed) for seed in seeds]


def outcome(claim: Claim, rows: Sequence[Figures], seeds: Sequence[int]) -> str:
    """The verdict, or that there can be none."""
    if claim.what != "seconds" and is_untested(claim, rows, seeds):
        return VERDICTS[3]
    return verdict(differences(claim, rows, seeds))


def is_untested(claim: Claim, rows: Sequence[Figures], seeds: Sequence[int]) -> bool:
    """Whether training did too little on the scans of its validation: to one network, or to the difference of two."""
    pairs = [validated(rows, method, seeds) for method in (claim.better, claim.worse)]
    networks = [pair for pair in pairs if pair is not None]
    if any(after - before < LEARNED for before, after in networks):
        return True
    if len(networks) < 2:
        return False
    before, after = (a - b for a, b in zip(*networks, strict=True))
    return abs(after - before) < abs(before)


def validated(rows: Sequence[Figures], method: str, seeds: Sequence[int]) -> tuple[float, float] | None:
    """PSNR of a network on the scans of its validation before and after training, means over seeds; None for a classical method."""
    own = [row for row in rows if row["method"] == method and row["seed"] in seeds]
    if not own:
        return None
    return fmean(row["trained_psnr_untrained"] for row in own), fmean(row["trained_psnr"] for row in own)


def verdict(gains: Sequence[float]) -> str:
    """In words."""
    agree = sum(gain > 0 for gain in gains)
    return {len(gains): VERDICTS[0], 0: VERDICTS[2]}.get(agree, VERDICTS[1])


def _memory(study: Study, costs: Sequence[Figures]) -> list[str]:
    """Largest batches by the bytes that a step keeps; relative to the first method, as the paper's."""
    capacity = " / ".join(map(str, GIGABYTES))
    heads = ["method", "weights", "kept per slice, MiB", f"largest batch in {capacity} GB", "times the first"]
    heads += ["the paper's weights", f"its largest batch in {capacity} GB", "times the first"] if study.batches else []
    lines = [
        "## Memory of training", "",
        "What a training step keeps for its backward pass besides weights, on one slice of 64² voxels without physics, 64",
        "channels in 2-D (DnCNN of 17 layers). Batch: what fits beside weights, gradients and two moments of Adam.", "",
        "| " + " | ".join(heads) + " |", "|---" * len(heads) + "|",
    ]  # fmt: skip
    for row in costs:
        sizes = [int((gb * 1e9 - 16 * row["n_parameters"]) // row["bytes"]) for gb in GIGABYTES]
        cells = [f"`{row['method']}`", f"{row['n_parameters']:,}", f"{row['bytes'] / 2**20:.1f}"]
        cells += [" / ".join(map(str, sizes)), f"{costs[0]['bytes'] / row['bytes']:.1f}"]
        if study.batches:
            *batches, n_parameters = study.batches[row["method"]]
            first = float(study.batches[costs[0]["method"]][2])
            cells += [n_parameters, " / ".join(batches), f"{float(batches[2]) / first:.1f}"]
        lines.append("| " + " | ".join(cells) + " |")
    if study.batches:
        lines += [
            "",
            "The paper's: LUSER, table 3, deblurring; times the first at 24 GB. What is saved against the first, ours over",
        ]
        lines += [f"the paper's: {', '.join(_savings(study, costs))}."]
    return [*lines, ""]


def _savings(study: Study, costs: Sequence[Figures]) -> list[str]:
    """How much of the paper's saving of memory each method has here."""
    first, *others = costs
    theirs = {method: float(batches[2]) for method, batches in study.batches.items()}
    ratios = {row["method"]: first["bytes"] / row["bytes"] for row in others}
    return [f"`{name}` {ratio / (theirs[name] / theirs[first['method']]):.2f}" for name, ratio in ratios.items()]


def _memory_outcome(study: Study, costs: Sequence[Figures]) -> list[str]:
    """The same for the paper's largest batches, which depend on no seed."""
    if not study.batches:
        return []
    theirs = {method: float(batches[2]) for method, batches in study.batches.items()}
    ours = {row["method"]: -float(row["bytes"]) for row in costs}
    pairs = [(a, b) for a in theirs for b in theirs if theirs[a] > theirs[b]]
    found = [(verdict([ours[a] - ours[b]]), a, b) for a, b in pairs]
    return [f"| Memory of training | largest batch | {len(pairs)} | none | {_sorted(found)} |"]


def _sorted(found: Sequence[tuple[str, str, str]]) -> str:
    """Cells of (verdict, better, worse): for every verdict how many and which."""
    cells = []
    for word in VERDICTS:
        pairs = [f"`{better}` > `{worse}`" for given, better, worse in found if given == word]
        cells.append(f"{len(pairs)}{': ' * bool(pairs)}{', '.join(pairs)}")
    return " | ".join(cells)
