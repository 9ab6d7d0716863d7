"""Do several processes compute what one would with the joint batch?"""

import pytest
import torch
from shared_training import ROWS, Layers, rows, share, sparse_net, sparse_trained, trained
from torch.nn.parallel import DistributedDataParallel
from torch.testing import assert_close
from two_processes import in_processes

from pyproj2d3d.losses.contrastive import info_nce
from pyproj2d3d.nn.distributed import cat_over_processes, joint_mean, processes, sum_over_processes
from pyproj2d3d.nn.sparse_blocks import BatchNorm


def test_alone_a_sum_is_itself_and_a_mean_the_usual_one():
    x = torch.tensor([1.0, 2.0])
    assert processes() == 1
    assert sum_over_processes(x) is x
    assert cat_over_processes(x) is x
    assert joint_mean(torch.tensor(6.0), 4).item() == 1.5
    assert joint_mean(torch.tensor(0.0), torch.tensor(0)).item() == 0


COUNTS = [ROWS, [7, 0], [1, 1]]
CLOUDS = [[300, 200], [300, 0]]  # points of each process's cloud
DTYPES = [torch.bfloat16, torch.float32]


def all_of_it(rank):
    """Everything in one meeting: to start a process takes longer than what it computes here."""
    some = slice(0, ROWS[0]) if rank == 0 else slice(ROWS[0], None)
    norms = [one_norm(rows()[0][some].to(dtype)) for dtype in DTYPES]
    single = BatchNorm(4)
    x = torch.ones(1 - rank, 4, requires_grad=True)
    single(x).sum().backward()
    return {
        "trained": [share(rank, counts) for counts in COUNTS],
        "contrasted": [contrasted(rank, counts) for counts in COUNTS],
        "norms": norms,
        "sparse": [sparse_trained(DistributedDataParallel(sparse_net()), counts, [rank]) for counts in CLOUDS],
        "single": [single.running_mean, single.running_var, x.grad],
    }


def contrasted(rank, counts):
    """One backward pass of a loss in which every row is a negative of all others, of the other process too."""
    torch.manual_seed(0)
    net = torch.nn.Linear(4, 6, dtype=torch.float64)
    begin = sum(counts[:rank])
    x = rows(counts)[0][begin : begin + counts[rank]]
    model = DistributedDataParallel(net) if processes() > 1 else net
    anchors, candidates = model(x).split(3, dim=1)
    joint = cat_over_processes(anchors)
    loss = info_nce(joint, cat_over_processes(candidates))
    loss.backward()
    return {"loss": loss.detach(), "joint": joint.detach(), "weight": net.weight.grad, "bias": net.bias.grad}


def one_norm(x):
    norm = BatchNorm(4)
    return [norm(x).detach(), norm.running_mean, norm.running_var, norm.eval()(x).detach()]


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
