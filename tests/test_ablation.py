"""The ablation on a toy: the variants differ in what they should, and networks end as rows of a table."""

from dataclasses import asdict

from benchmarks.ablation import (
    APPROXIMATED,
    GLOBAL,
    PARTITIONED,
    Setting,
    Variant,
    page,
    prepare,
    quality,
    train,
    variants,
)

TOY = Setting(
    size=16, views=6, steps=2, objects=1, held_out=1, channels=(4, 4, 4, 4), n_iterations=1, start_iterations=2,
    precision="float32",
)  # fmt: skip


def test_one_thing_changes_at_a_time():
    whole, partitioned, approximated, *sweep = variants(64)
    assert (whole.name, whole.patch, whole.exact) == (GLOBAL, 64, True)
    assert (partitioned.name, partitioned.patch, partitioned.exact) == (PARTITIONED, 32, True)
    assert (approximated.name, approximated.patch, approximated.exact) == (APPROXIMATED, 32, False)
    assert [v.patch for v in sweep] == [16, 48, 64]
    assert not any(v.exact for v in sweep)


def test_a_training_ends_as_a_row(tmp_path):
    prepare(TOY, tmp_path)
    rows = []
    for variant in (Variant(GLOBAL, 16, True), Variant(APPROXIMATED, 8, False)):
        costs = train(TOY, variant, tmp_path)
        assert costs["cpu_seconds_per_step"] > 0
        rows.append(asdict(variant) | costs | quality(TOY, tmp_path))
    assert rows[0]["psnr_start"] == rows[1]["psnr_start"]
    assert rows[0]["psnr"] != rows[1]["psnr"]
    rows[0]["peak_memory_mib"], rows[1]["peak_memory_mib"] = 100.0, 40.0
    text = page(TOY, rows)
    assert "| global | 16³ |" in text
    assert "memory × 0.40" in text
