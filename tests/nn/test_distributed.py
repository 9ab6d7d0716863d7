"""Do several processes compute what one would with the joint batch?"""

import pytest
import torch
from shared_training import (
    CLOUDS,
    COUNTS,
    DTYPES,
    Layers,
    all_of_it,
    contrasted,
    one_norm,
    rows,
    sparse_net,
    sparse_trained,
    trained,
)
from torch.testing import assert_close
from two_processes import in_processes

from pyproj2d3d.nn.distributed import cat_over_processes, joint_mean, processes, sum_over_processes


def test_alone_a_sum_is_itself_and_a_mean_the_usual_one():
    x = torch.tensor([1.0, 2.0])
    assert processes() == 1
    assert sum_over_processes(x) is x
    assert cat_over_processes(x) is x
    assert joint_mean(torch.tensor(6.0), 4).item() == 1.5
    assert joint_mean(torch.tensor(0.0), torch.tensor(0)).item() == 0


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What each of two processes got."""
    return in_processes(2, all_of_it, tmp_path_factory.mktemp("two"))


@pytest.mark.parametrize("counts", COUNTS, ids=str)
def test_two_processes_have_the_gradients_of_one_with_the_joint_batch(counts, both):
    parts = [part["trained"][COUNTS.index(counts)] for part in both]
    alone = trained(Layers(), *rows(counts))
    assert_close(sum(part["loss"] for part in parts) / 2, alone["loss"])
    # x is no parameter: nothing takes the mean of its gradients, so each is twice the joint one
    assert_close(torch.cat([part["x"] for part in parts]) / 2, alone["x"])
    for name, wanted in alone.items():
        if name not in ("loss", "x"):
            for part in parts:
                assert_close(part[name], wanted, msg=lambda text, name=name: f"{name}: {text}")
    assert alone["first.weight"].abs().max() > 0


@pytest.mark.parametrize("counts", COUNTS, ids=str)
def test_rows_of_two_processes_are_contrasted_as_in_one_with_the_joint_batch(counts, both):
    alone = contrasted(0, [sum(counts)])
    assert len(alone["joint"]) == sum(counts)
    assert alone["weight"].abs().max() > 0
    for part in both:
        assert_close(part["contrasted"][COUNTS.index(counts)], alone)


@pytest.mark.parametrize("counts", CLOUDS, ids=str)
def test_an_sr_unet_in_two_processes_has_the_gradients_of_one_with_both_clouds(counts, both):
    alone = sparse_trained(sparse_net(), counts, [0, 1])
    for part in both:
        got = part["sparse"][CLOUDS.index(counts)]
        assert got.keys() == alone.keys()
        for name, wanted in alone.items():
            assert_close(got[name], wanted, rtol=1e-6, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("dtype", DTYPES, ids=["bfloat16", "float32"])
def test_a_norm_over_two_processes_has_the_dtype_of_its_input_and_the_statistics_of_both(dtype, both):
    parts = [part["norms"][DTYPES.index(dtype)] for part in both]
    trained, mean, var, evaluated = one_norm(rows()[0].to(dtype))
    got = torch.cat([part[0] for part in parts])
    assert got.dtype == dtype
    near = {"rtol": 0, "atol": 0.02 if dtype == torch.bfloat16 else 1e-5}
    assert_close(got.float(), trained.float(), **near)
    for part in parts:
        assert_close(part[1:3], [mean, var], rtol=1e-4, atol=1e-5)
    assert_close(torch.cat([part[3] for part in parts]).float(), evaluated.float(), **near)


def test_one_voxel_in_all_processes_is_normalised_as_in_evaluation(both):
    for mean, var, grad in (part["single"] for part in both):
        assert mean.tolist() == [0] * 4
        assert var.tolist() == [1] * 4
        assert grad.flatten().tolist() == [pytest.approx(1, rel=1e-4)] * grad.numel()
    assert [part["single"][2].numel() for part in both] == [4, 0]
