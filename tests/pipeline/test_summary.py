import pytest
from scipy.stats import ttest_rel

from napari_unroll.pipeline.summary import comparisons, means, paired_t_interval, tables


def row(method, scan, psnr, data="generated", ood=False, **more):
    numbers = {"ssim": 0.9, "nrmse": 0.1, "residual": 0.02, "seconds": 1.0, "peak_memory_mib": 10.0}
    about = {
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
    text = "\n".join(tables([*ROWS, row("unrolled-pgd", "foot", 20.0, data="foot", ood=True)]))
    assert "32.00 ± 2.65 / 0.900 / 2.00% / 1.0 s" in text
    assert "against tv-fista at 30 views: +0.83 dB (95 %: -2.29 to +3.96), better on 2 of 3" in text
    assert "cone-beam, foot (1 scan each, out of distribution for the networks)" in text


def test_kinds_of_data_are_compared_together_too():
    foot = [row("unrolled-pgd", "0", 20.0, data="foot"), row("tv-fista", "0", 21.0, data="foot")]
    *_, pooled = comparisons([*ROWS, *foot])
    assert pooled["data"] == "all data"
    assert (pooled["n"], pooled["wins"]) == (4, 2)
    assert pooled["gain"] == pytest.approx((1 - 0.5 + 2 - 1) / 4, abs=1e-3)
    assert [g["data"] for g in comparisons(ROWS)] == ["generated"]
    assert "## cone-beam, all data" in tables([*ROWS, *foot])
    assert not any("all data" in line for line in tables(ROWS))
