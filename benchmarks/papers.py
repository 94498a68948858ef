"""The tables of a paper at the size that this machine allows: its figures beside ours.

    python benchmarks/papers.py --paper efficient-unrolling [--quick] [--size 64] [--minutes 10] [--n 3] [--out docs/papers]
    python benchmarks/papers.py --paper luser|mol [--quick] [--minutes 0.75] [--seeds 3] [--deadline 40]

Networks of a table are trained from scratch by ``training.session.train`` for ``--minutes`` of the CPU each, on generated objects,
in processes of their own; a second call goes on from what is in ``--work``. Then every row reconstructs the same held-out scans.
Efficient unrolling: rows of shipped weights stand beside them, with the time that those were trained for; table 3 is the
ablation of ``benchmarks/ablation.py``. LUSER and MOL: small networks over several seeds, see ``paper_seeds``. Writes PAPER.md
and PAPER.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import ablation
import paper_seeds
from paper_studies import STUDIES
from paper_tables import ABLATION, PAPERS, Row, Table
from paper_training import Figures, in_own_process

from napari_unroll.environment import machine, software
from napari_unroll.events import Measured, Warned
from napari_unroll.methods import registry, weights
from napari_unroll.pipeline.evaluate import EvaluationPlan, evaluate
from napari_unroll.pipeline.params import build
from napari_unroll.training.plan import TrainingPlan


def plan_of(table: Table, name: str, given: argparse.Namespace) -> TrainingPlan:
    """The training of one network of a table."""
    own = table.networks[name]
    patch = {"ct": (given.patch,) * 3, "mri": (8, given.size, given.size)}[table.modality]
    options = {"max_seconds": 60.0 * given.minutes, "patch_size": patch, "log_every": 5}
    wanted = {
        "modality": table.modality,
        "size": given.size,
        "levels": table.levels,
        "n_objects": given.objects,
        "name": name,
    }
    network = {**own["network"], "prior": {**own["network"]["prior"], "channels": given.channels}}
    return build(TrainingPlan, {**wanted, "method": own["method"], "network": network, "options": options})


def quality(table: Table, row: Row, chosen: str, given: argparse.Namespace) -> dict[str, tuple[float, float]]:
    """(SSIM, PSNR) per level in words, means over the held-out scans; empty where the method cannot run here."""
    plan = EvaluationPlan(
        task=table.task, n=given.n, size=given.size, methods=(row.method,), weights=chosen, device="cpu",
        **{table.level_name: table.levels},
    )  # fmt: skip
    rows = []
    for event in evaluate(plan):
        if isinstance(event, Measured):
            rows.append(dict(event.row))
        elif isinstance(event, Warned):
            print(event.text, flush=True)
    levels = {level: [r for r in rows if r[table.level_name] == level] for level in table.levels}
    return {
        f"{level:g}": (statistics.fmean(r["ssim"] for r in found), statistics.fmean(r["psnr"] for r in found))
        for level, found in levels.items()
        if found
    }


def shipped_seconds(row: Row, modality: str) -> float | None:
    """How long the shipped weights of a row were trained, by their card."""
    method = registry.get(row.method)
    own = weights.shipped_for(method.networks[0], modality) if method.needs_weights else []
    return float(own[0].card.get("seconds", 0.0)) if own else None


def measure(table: Table, given: argparse.Namespace) -> list[Figures]:
    """Every row of a table."""
    folder = given.work / table.task
    networks = {
        name: in_own_process(plan_of(table, name, given), folder / name, given.threads) for name in table.networks
    }
    kept = folder / "rows.json"
    rows: list[Figures] = json.loads(kept.read_text()) if kept.is_file() else []
    done = [row["title"] for row in rows]
    for row in (row for row in table.rows if row.title not in done):
        if row.method not in registry.METHODS:
            raise SystemExit(f"The table names the method {row.method}, which is not in the registry.")
        costs = networks.get(row.network, {})
        seconds = costs.get("seconds") or shipped_seconds(row, table.modality)
        rows.append({
            "title": row.title, "method": row.method, "trained_s": seconds,
            "memory_mib": costs.get("memory_mib"), "seconds_per_step": costs.get("seconds_per_step"),
            "steps": costs.get("steps"), "quality": quality(table, row, costs.get("weights", row.weights), given),
        })  # fmt: skip
        print(json.dumps(rows[-1]), flush=True)
        kept.write_text(json.dumps(rows))
    return rows


def table_page(table: Table, rows: list[Figures]) -> list[str]:
    """A table as Markdown: PSNR and SSIM ours / the paper's."""
    heads = [f"{level:g} {table.level_name}" for level in table.levels]
    lines = [
        f"## {table.title}", "",
        f"PSNR in dB / SSIM, ours and (the paper's), at {', '.join(heads)}.", "",
        f"| row | method | {' | '.join(heads)} | training MiB (GB) | s per step | trained for |",
        "|---" * (len(heads) + 5) + "|",
    ]  # fmt: skip
    published = {row.title: row.published for row in table.rows}
    for row in rows:
        cells = [_quality(row, published[row["title"]].quality, level) for level in table.levels]
        costs = published[row["title"]]
        memory = _both(row["memory_mib"], costs.memory_gb, "{:.0f}")
        pace = _both(row["seconds_per_step"], costs.seconds_per_step, "{:.2f}")
        time_ = f"{row['trained_s'] / 60:.0f} min" if row["trained_s"] else ""
        lines.append(f"| {row['title']} | `{row['method']}` | {' | '.join(cells)} | {memory} | {pace} | {time_} |")
    return [*lines, ""]


def _quality(row: Figures, published: Any, level: float) -> str:
    found, theirs = row["quality"].get(f"{level:g}"), published.get(level)
    ours = f"{found[1]:.2f} / {found[0]:.3f}" if found else "not run: no weights here"
    return f"{ours} ({theirs[1]:.2f} / {theirs[0]:.3f})" if theirs else ours


def _both(ours: float | None, theirs: float | None, form: str) -> str:
    words = form.format(ours) if ours is not None else ""
    return f"{words} ({theirs:g})".strip() if theirs is not None else words


def ablation_page(found: dict[str, Any]) -> list[str]:
    """Table 3: our ablation on cone beams beside the paper's figures."""
    lines = [
        "## Table 3: ablation", "",
        "Ours on cone beams: PSNR in dB, MiB, CPU seconds per step. The paper's: PSNR in dB, GB, s per step.", "",
        "| configuration | ours | paper, multi-coil MRI | paper, walnuts |", "|---|---|---|---|",
    ]  # fmt: skip
    rows = {row["name"]: row for row in reversed(found["rows"])}
    for title, name, coil, cone in ABLATION:
        row = rows[name]
        ours = f"{row['psnr']:.2f}, {row['peak_memory_mib']:.0f}, {row['cpu_seconds_per_step']:.2f}"
        theirs = [", ".join(f"{v:g}" for v in figures) if figures else "out of memory" for figures in (coil, cone)]
        lines.append(f"| {title} | {ours} | {' | '.join(theirs)} |")
    return [*lines, ""]


def page(paper: str, given: argparse.Namespace, results: dict[str, list[Figures]], found: dict[str, Any]) -> str:
    """The whole page."""
    lines = [
        f"# {paper.replace('-', ' ').capitalize()}: the paper's tables and ours", "",
        "The paper: *Efficient Unrolled Networks for Large-Scale 3D Inverse Problems*, arXiv 2601.02141; measured walnuts of 501³",
        "voxels and measured brains of 12 coils, networks of 96.5 million parameters, days on an H100.", "",
        f"Ours: generated scans of {given.size}³ voxels (MRI: half as many planes), {given.n} held out per level; networks with",
        f"channels {given.channels}, trained from scratch for {given.minutes:g} minutes each on a CPU. So what can be compared is",
        "the order of the rows, not their height, and of unrolled 3-D networks, which took few steps in that time, not even",
        "that. Rows of shipped weights say how long those were trained.", "",
        f"Written by `python benchmarks/papers.py --paper {paper}` on {machine()}.", "",
    ]  # fmt: skip
    for table in PAPERS[paper]:
        lines += table_page(table, results[table.task])
    return "\n".join([*lines, *ablation_page(found)])


def ablated(given: argparse.Namespace) -> dict[str, Any]:
    """The ablation of the third table."""
    setting = ablation.QUICK if given.quick else ablation.Setting(size=given.ablation_size, steps=given.ablation_steps)
    with tempfile.TemporaryDirectory() as folder:
        ablation.ablate(setting, None, given.work, Path(folder))
    found: dict[str, Any] = json.loads((given.work / "ablation.json").read_text())
    return found


def main() -> None:
    """Parse, train, measure, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--paper", choices=(*PAPERS, *STUDIES), default="efficient-unrolling")
    parser.add_argument(
        "--quick", action="store_true", help="minutes: shows that everything runs, not what it is worth"
    )
    parser.add_argument("--size", type=int, default=64, help="voxels along an edge")
    parser.add_argument("--minutes", type=float, help="CPU time of each training; default 10, with seeds 0.75")
    parser.add_argument("--n", type=int, help="held-out scans per level; default 3, with seeds 8")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each network (luser, mol)")
    parser.add_argument("--perturbed", type=int, default=2, help="scans that are perturbed (mol)")
    parser.add_argument("--deadline", type=float, help="minutes after which no other training begins (luser, mol)")
    parser.add_argument("--patch", type=int, default=32, help="edge of training patches (CT)")
    parser.add_argument("--objects", type=int, default=24, help="training objects")
    parser.add_argument("--channels", type=int, nargs=4, default=(16, 32, 64, 128), help="channels of every prior")
    parser.add_argument("--threads", type=int, default=1, help="threads of a training")
    parser.add_argument("--ablation-size", type=int, default=48, help="voxels along an edge in the ablation")
    parser.add_argument("--ablation-steps", type=int, default=60, help="steps of each training of the ablation")
    parser.add_argument("--work", type=Path, default=Path("unroll-papers"), help="folder of trainings")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1] / "docs" / "papers")
    given = parser.parse_args()
    is_study = given.paper in STUDIES
    given.channels = tuple(given.channels)
    given.minutes = given.minutes or (0.75 if is_study else 10)
    given.n = given.n or (8 if is_study else 3)
    if given.quick:
        given.size, given.minutes, given.n, given.patch, given.objects = 24, 0.1, 1, 16, 2
        given.channels = (4, 4, 4, 4)
        given.seeds, given.perturbed = 1, 1
        given.minutes = 0.12 if is_study else 0.1
    for folder in (given.work, given.out):
        folder.mkdir(parents=True, exist_ok=True)
    if is_study:
        paper_seeds.compare(STUDIES[given.paper], given)
        return
    results = {table.task: measure(table, given) for table in PAPERS[given.paper]}
    found = ablated(given)
    name = given.paper.replace("-", "_")
    report = {"machine": machine(), "software": software(), "tables": results, "ablation": found}
    (given.out / f"{name}.json").write_text(json.dumps(report, indent=2) + "\n")
    (given.out / f"{name}.md").write_text(page(given.paper, given, results, found))
    print(f"Wrote {given.out / name}.md")


if __name__ == "__main__":
    main()
