import pytest
from scipy.stats import ttest_rel

from napari_unroll.pipeline.summary import comparisons, means, paired_t_interval, tables


def row(method, scan, psnr, data="generated", ood=False, part="generated", **more):
    numbers = {"ssim": 0.9, "nrmse": 0.1, "residual": 0.02, "seconds": 1.0, "peak_memory_mib": 10.0}
    about = {
        "part": part,
        "task": "cone-beam",
        "views": 30,
        "method": method,
        "data": data,
        "scan": scan,
        "weights": None,
        "ood": ood,
    }
    return about | numbers | {"psnr": psnr} | more


OURS, THEIRS = [30.0, 31.0, 35.0], [29.0, 31.5, 33.0]
ROWS = [row("unrolled-pgd", str(i), p) for i, p in enumerate(OURS)]
ROWS += [row("tv-fista", str(i), p) for i, p in enumerate(THEIRS)]


def test_means_keep_the_spread_over_scans():
    ours, theirs = means(ROWS)
    assert (ours["psnr"], ours["psnr_std"], ours["n"]) == (32.0, 2.646, 3)
    assert theirs["views"] == 30
    assert "scan" not in ours
    assert means(ROWS[:1])[0]["psnr_std"] is None


def test_paired_interval_is_that_of_the_paired_t_test():
    found = comparisons(ROWS)[0]
    interval = ttest_rel(OURS, THEIRS).confidence_interval(0.95)
    assert found["gain"] == pytest.approx(0.833, abs=1e-3)
    assert found["ci95"] == pytest.approx([interval.low, interval.high], abs=1e-3)
    assert (found["wins"], found["n"]) == (2, 3)


def test_only_scans_of_both_methods_are_compared():
    found = comparisons([*ROWS, row("unrolled-pgd", "alone", 90.0)])[0]
    assert (found["gain"], found["n"]) == (0.833, 3)
    assert comparisons(ROWS[:3]) == []
    assert paired_t_interval([1.0]) == {"gain": 1.0, "ci95": None, "wins": 1, "n": 1}


def test_tables_tell_spread_gain_and_what_is_out_of_distribution():
    foot = row("unrolled-pgd", "foot", 20.0, data="foot", ood=True, part="simulated", domain="out", noise="2 % (so)")
    text = "\n".join(tables([*ROWS, foot]))
    assert "32.00 ± 2.65 / 0.900 / 2.00% / 1.0 s" in text
    assert "| *unrolled-pgd over tv-fista* | +0.83 dB (-2.29 to +3.96), 2 of 3 |" in text
    assert "## Simulated scans of measured volumes\n\n### cone-beam, foot (1 scan each, other objects" in text
    assert "| *in the domain of its weights* | out |\n| *noise* | 2 % |" in text


def test_parts_are_never_compared_or_averaged_together():
    foot = [row(m, "0", p, part="simulated") for m, p in (("unrolled-pgd", 20.0), ("tv-fista", 21.0))]
    assert [(g["part"], g["gain"], g["n"]) for g in comparisons([*ROWS, *foot])] == [
        ("generated", 0.833, 3),
        ("simulated", -1.0, 1),
    ]
    assert len(means([*ROWS, *foot])) == 4


def test_without_a_truth_the_error_of_left_out_measurements_is_compared_in_db():
    rows = [row(m, "0", 0, part="measured", left_out=e) for m, e in (("unrolled-pgd", 0.001), ("tv-fista", 0.01))]
    for without in rows:
        del without["psnr"]
    assert comparisons(rows)[0]["gain"] == pytest.approx(10)
    text = "\n".join(tables(rows))
    assert "| unrolled-pgd | 0.100% / 2.00% / 1.0 s |" in text


def test_what_did_not_converge_is_told():
    (mean,) = means([row("mol-lr", str(i), 20.0, converged=i > 0) for i in range(3)])
    assert mean["converged"] is False
    assert "1.0 s, not converged |" in "\n".join(tables([row("mol-lr", "0", 20.0, converged=False)]))
