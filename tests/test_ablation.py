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
    assert (whole.name, whole.patch, whole.partition) == (GLOBAL, 64, "global")
    assert (partitioned.name, partitioned.patch, partitioned.partition) == (PARTITIONED, 32, "exact")
    assert (approximated.name, approximated.patch, approximated.partition) == (APPROXIMATED, 32, "approximated")
    assert [v.patch for v in sweep] == [16, 48, 64]
    assert {v.partition for v in sweep} == {"approximated"}


def test_a_training_ends_as_a_row(tmp_path):
    prepare(TOY, tmp_path)
    rows = []
    for variant in (Variant(GLOBAL, 16, "global"), Variant(APPROXIMATED, 8, "approximated")):
        costs = train(TOY, variant, tmp_path)
        assert costs["cpu_seconds_per_step"] > 0
        rows.append(asdict(variant) | costs | quality(TOY, tmp_path))
    assert rows[0]["psnr_start"] == rows[1]["psnr_start"]
    assert rows[0]["psnr"] != rows[1]["psnr"]
    rows[0]["peak_memory_mib"], rows[1]["peak_memory_mib"] = 100.0, 40.0
    text = page(TOY, rows)
    assert "| global | 16³ |" in text
    assert "memory × 0.40" in text
