import math
import shlex
from dataclasses import replace

import numpy as np
import pytest

from napari_unroll.errors import DeviceError, MemoryExceeded, ParameterError
from napari_unroll.methods.algorithms.network import Network, NetworkConfig
from napari_unroll.methods.networks.dncnn import CNNConfig
from napari_unroll.methods.networks.drunet import DRUNetConfig
from napari_unroll.methods.registry import METHODS, get
from napari_unroll.methods.weights import save_network
from napari_unroll.patches.grid import PatchGrid
from napari_unroll.physics.samples import sample_multicoil
from napari_unroll.pipeline import patching
from napari_unroll.pipeline.devices import Device, choose, probe
from napari_unroll.pipeline.patching import largest_for, overlap_for
from napari_unroll.pipeline.plan import Choices, parse_roi, resolve
from napari_unroll.scan import photon_counts
from napari_unroll.scan.geometry import ConeBeam, VolumeGrid
from napari_unroll.scan.scan import Scan
from tests.methods import tiny

GIB = 2**30
CPU = Device("cpu", "CPU", 8 * GIB)
GPU = Device("cuda:0", "GPU", 24 * GIB, has_bfloat16=True)


def plan(scan=None, devices=(CPU,), **choices):
    return resolve(Choices(**choices), scan or tiny.cone(), devices)


def test_auto_may_be_said_aloud():
    assert plan(method="fdk", patch_size="auto", overlap="auto", params={}) == plan(method="fdk")


def test_the_same_choices_give_the_same_plan():
    assert plan(method="cgls", params={"n_iterations": 4}) == plan(method="cgls", params={"n_iterations": 4})


def test_missing_angles_are_told():
    half = tiny.cone()
    geometry = half.geometry.subset(range(half.geometry.n_views // 2))
    few = replace(half, geometry=geometry, measurements=half.measurements[: geometry.n_views])
    (told,) = plan(few, method="cgls").facts["caution"]
    assert "of a complete scan" in told
    assert "caution" not in plan(method="cgls").facts


def test_auto_decides_everything():
    made = plan()
    assert made.method in METHODS
    assert made.device == "cpu"
    assert made.grid == tiny.cone().grid


def test_a_gpu_is_preferred_and_a_missing_device_told():
    assert plan(devices=(GPU, CPU), method="fdk").device == "cuda:0"


@pytest.mark.parametrize("device", [GPU, CPU])
def test_networks_compute_in_what_the_device_is_good_at(device):
    able, unable = replace(device, has_bfloat16=True), replace(device, has_bfloat16=False)
    assert plan(devices=(able,), method="drunet").precision == "bfloat16"
    assert plan(devices=(unable,), method="drunet").precision == "float32"
    assert plan(devices=(able,), method="fdk").precision == "float32"


def test_half_the_bytes_a_number_are_half_the_memory_of_a_network():
    roomy = replace(CPU, has_bfloat16=False)
    full, half = (plan(devices=(roomy,), method="drunet", precision=p).memory_bytes for p in ("float32", "bfloat16"))
    assert 0.5 < half / full < 0.7


def test_fixed_points_are_looked_for_in_float32_and_slow_numbers_are_told():
    unrolled, equilibrium = (plan(devices=(GPU, CPU), method=name) for name in ("unrolled-pgd", "mol-lr"))
    assert (unrolled.precision, equilibrium.precision) == ("bfloat16", "float32")
    assert plan(devices=(GPU, CPU), method="mol-lr", precision="bfloat16").precision == "bfloat16"
    (caution, *_) = plan(method="unrolled-pgd", precision="bfloat16").cautions
    assert "CPU has no instructions for bfloat16" in caution
    assert plan(devices=(GPU, CPU), method="fdk", device="cpu").device == "cpu"
    with pytest.raises(DeviceError, match=r"\(cpu\) or auto; got 'cuda:3'"):
        plan(device="cuda:3")


def test_this_machine_has_at_least_a_cpu():
    assert choose("cpu", probe()).free_bytes > 0


def test_a_method_of_another_modality_is_told():
    with pytest.raises(ParameterError, match="does not apply to MRI scans; choose one of zero-filled"):
        plan(tiny.multicoil(), method="fdk")


def test_wrong_parameters_are_told():
    with pytest.raises(ParameterError, match=r"n_iterations: .*got 0"):
        plan(method="cgls", params={"n_iterations": 0})
    with pytest.raises(ParameterError, match="no parameter 'steps'"):
        plan(method="cgls", params={"steps": 3})


def larger_cone(n):
    return tiny.cone().with_grid(tiny.cone().grid.resample((n, n, n)))


def through_the_network(made):
    """Voxels that one pass of the network sees, over those of the volume."""
    grid = PatchGrid(made.grid.shape, made.patch_size, made.overlap)
    return len(grid) * math.prod(grid.patch_shape) / math.prod(grid.shape)


@pytest.mark.parametrize(("n", "most"), [(64, 1.0), (96, 1.0), (128, 1.3), (160, 1.4), (256, 1.5)])
@pytest.mark.parametrize("device", [CPU, GPU], ids=["cpu", "gpu"])
def test_little_more_than_the_volume_goes_through_the_network(n, most, device):
    made = plan(larger_cone(n), (device,), method="unrolled-pgd")
    assert through_the_network(made) <= most
    assert made.memory_bytes <= 0.7 * made.free_bytes
    assert "voxels" in made.notes[0]


def test_patches_are_smaller_where_memory_is():
    roomy = plan(larger_cone(128), method="unrolled-pgd")
    tight = plan(
        larger_cone(128), (Device("cpu", "CPU", int(roomy.memory_bytes / 0.7) - 2**20),), method="unrolled-pgd"
    )
    assert roomy.patch_size == (128, 128, 128)
    assert tight.patch_size[0] < 128
    assert tight.memory_bytes <= 0.7 * tight.free_bytes
    assert through_the_network(tight) < 2


def test_a_volume_2048_voxels_across_is_planned_by_a_few_dozen_estimates(monkeypatch):
    """Not one for every edge, no list of its patches, and of its views only some are looked at."""
    n = 2048
    geometry = ConeBeam.circular(
        angles_rad=np.arange(8) * np.pi / 4, source_origin_mm=4.0 * n, source_detector_mm=6.0 * n, detector_shape=(n, n),
        pixel_mm=(1.6, 1.6),
    )  # fmt: skip
    views = np.broadcast_to(np.float32(0), geometry.measurement_shape)
    scan = Scan(measurements=views, geometry=geometry, grid=VolumeGrid(shape=(n, n, n)))
    tried, looked = [], []
    needs, some_views = patching._needs, photon_counts.some_views
    monkeypatch.setattr(patching, "_needs", lambda *args: tried.append(args[1]) or needs(*args))
    monkeypatch.setattr(photon_counts, "some_views", lambda p: looked.append(some_views(p)) or looked[-1])
    monkeypatch.setattr(PatchGrid, "boxes", property(lambda grid: pytest.fail("A plan needs no list of patches.")))
    assert plan(scan, (replace(CPU, free_bytes=2000 * GIB),), method="unrolled-pgd").patch_size == (96, 96, 96)
    with pytest.raises(MemoryExceeded, match="for a volume of"):
        plan(scan, (replace(CPU, free_bytes=80 * GIB),), method="unrolled-pgd")
    assert len(tried) < 40
    assert [p.size for p in looked] == [n * n]


def test_a_heavy_network_gets_smaller_patches_on_a_processor_so_that_it_can_be_stopped(tmp_path):
    prior, path = DRUNetConfig(channels=(64, 8, 8, 8)), tmp_path / "heavy.safetensors"
    save_network(Network(NetworkConfig(prior=prior, n_iterations=1)), path, "unrolled-pgd")
    heavy = {"method": "unrolled-pgd", "weights": str(path)}
    assert 2 * math.prod(plan(larger_cone(128), **heavy).patch_size) <= largest_for(prior, "cpu")
    assert plan(larger_cone(128), (GPU,), **heavy).patch_size == (128, 128, 128)


def test_an_apple_gpu_has_a_plan_too():
    made = plan(larger_cone(64), (Device("mps", "Apple GPU", 8 * GIB), CPU), method="unrolled-pgd", device="mps")
    assert (made.device, made.card) == ("mps", "")


def test_neighbours_share_what_the_network_sees_up_to_a_limit():
    assert overlap_for(CNNConfig(layers=5)) == 10
    assert overlap_for(CNNConfig(layers=17)) == 16
    assert overlap_for(DRUNetConfig()) == 16
    assert plan(larger_cone(160), method="unrolled-pgd").overlap == 16
    assert plan(larger_cone(160), method="unrolled-pgd", overlap=20).overlap == 20


def test_a_volume_that_cannot_be_held_is_refused_for_every_method():
    scan = tiny.cone().with_grid(tiny.cone().grid.resample((4096, 4096, 4096)))
    for name in ("fdk", "cgls", "unrolled-pgd"):
        with pytest.raises(MemoryExceeded, match="choose a region, a coarser grid"):
            plan(scan, method=name, patch_size=64)


def test_more_patches_than_anyone_can_wait_for_are_refused():
    scan = tiny.cone().with_grid(tiny.cone().grid.resample((256, 256, 256)))
    assert plan(scan, method="unrolled-pgd", patch_size=8, overlap=4).patch_size == (8, 8, 8)
    with pytest.raises(ParameterError, match="less overlap"):
        plan(scan, method="unrolled-pgd", patch_size=8, overlap=7)


def test_too_little_memory_is_told():
    scan = tiny.cone().with_grid(tiny.cone().grid.resample((128, 128, 128)))
    with pytest.raises(MemoryExceeded, match="choose a region, a coarser grid or another device"):
        plan(scan, (Device("cpu", "CPU", 2**20),), method="unrolled-pgd")


def test_an_asked_patch_is_clipped_to_the_volume():
    assert plan(method="unrolled-pgd", patch_size=64).patch_size == (20, 20, 20)
    assert plan(tiny.parallel(), method="unrolled-pgd", patch_size=16).patch_size == (6, 16, 16)


def test_an_overlap_as_large_as_the_patch_is_told():
    with pytest.raises(ParameterError, match="overlap"):
        plan(method="unrolled-pgd", patch_size=8, overlap=8)


def test_patches_shrink_by_halves_down_to_sixteen():
    made = plan(tiny.cone().with_grid(tiny.cone().grid.resample((64, 64, 64))), method="unrolled-pgd", patch_size=48)
    sizes = []
    while made is not None:
        sizes.append(made.patch_size[0])
        made = made.smaller()
    assert sizes == [48, 24, 16]


def test_methods_without_patches_cannot_shrink():
    assert plan(method="cgls").smaller() is None


def test_a_region_is_a_smaller_grid():
    made = plan(method="fdk", roi=(4, 8, 0, 20, 10, 20))
    assert made.grid.shape == (4, 20, 10)
    assert made.roi == (slice(4, 8), slice(0, 20), slice(10, 20))


@pytest.mark.parametrize("roi", [(4, 4, 0, 20, 0, 20), (0, 30, 0, 20, 0, 20), (-1, 4, 0, 20, 0, 20)])
def test_a_region_outside_is_told(roi):
    with pytest.raises(ParameterError, match="inside the volume"):
        plan(method="fdk", roi=roi)


@pytest.mark.parametrize("text", ["4,8", "4:8", "4,8,0,20,0,20"])
def test_regions_are_read_from_text(text):
    assert parse_roi(text, (20, 20, 20)) == (4, 8, 0, 20, 0, 20)


@pytest.mark.parametrize("text", ["4", "a,b", "1,2,3"])
def test_what_is_no_region_is_told(text):
    with pytest.raises(ParameterError, match="z0,z1"):
        parse_roi(text, (20, 20, 20))


def test_the_command_repeats_the_choices():
    made = plan(method="tv-fista", params={"strength": 0.5}, device="cpu", roi=(4, 8, 0, 20, 0, 20))
    words = shlex.split(made.command)
    assert words[:2] == ["napari-unroll", "reconstruct"]
    for pair in (["--method", "tv-fista"], ["--set", "strength=0.5"], ["--device", "cpu"], ["--roi", "4,8,0,20,0,20"]):
        assert words[words.index(pair[0]) + 1] == pair[1]


def test_the_weights_of_the_choices_reach_the_method():
    assert plan(method="unrolled-pgd", weights="mine.safetensors").params.weights == "mine.safetensors"


@pytest.mark.parametrize("name", METHODS)
def test_every_method_estimates_its_memory(name):
    scan = next(
        make() for make in (tiny.cone, tiny.parallel, tiny.multicoil, tiny.blurred) if not get(name).obstacle(make())
    )
    assert plan(scan, method=name).memory_bytes > scan.measurements.nbytes


def test_patches_of_a_slice_overlap_as_those_of_a_volume():
    """Axes that are not cut have no say: two slices of 128² in patches of 64² share 16 voxels, not 1."""
    made = plan(sample_multicoil((2, 128, 128), n_coils=2), method="drunet", patch_size=64)
    assert made.patch_size == (2, 64, 64)
    assert made.overlap == 16
    smaller = made.smaller()
    assert smaller is not None
    assert smaller.overlap == 16


def test_a_limit_of_memory_is_kept_and_repeated():
    """Patches shrink below it; where nothing fits it is said."""
    roomy = plan(larger_cone(128), method="unrolled-pgd")
    limit = round(roomy.memory_bytes / 0.7 / 1e9 - 0.01, 3)
    tight = plan(larger_cone(128), method="unrolled-pgd", max_memory_gb=limit)
    assert tight.memory_bytes <= 0.7 * limit * 1e9
    assert math.prod(tight.patch_size) < math.prod(roomy.patch_size)
    assert f"--max-memory-gb {limit}" in tight.command
    with pytest.raises(MemoryExceeded, match="choose a region, a coarser grid or another device"):
        plan(larger_cone(128), method="unrolled-pgd", max_memory_gb=0.01)
