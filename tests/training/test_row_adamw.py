"""Updating rows when they are read is AdamW on the whole table."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from distill.modeling import row_embedding
from distill.modeling.row_embedding import RowEmbedding, sparse_row_gradients
from distill.training.optimizer import AdamW
from distill.training.row_adamw import RowAdamW, rows_can_wait

ROWS, WIDTH = 60, 5


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(ROWS, WIDTH, padding_idx=0)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, ids):
        return self.head(torch.tanh(self.table(ids)).mean(dim=1))


@pytest.fixture(autouse=True)
def small_tables(monkeypatch):
    monkeypatch.setattr(row_embedding, "MIN_ROWS", 10)


def made() -> Net:
    torch.manual_seed(0)
    return Net().double()


def batches(count: int, seed: int = 1):
    draw = torch.Generator().manual_seed(seed)
    for _ in range(count):
        # Frequent and rare rows: some wait for hundreds of steps.
        yield (torch.rand((4, 3), generator=draw) ** 6 * 0.9 * ROWS).long()


def rates(count: int):
    return [1e-2 * (1 - step / count) for step in range(count)]


def train(net, optimizer, count=400, start=0, upto=None, clip=None):
    for step, (ids, rate) in enumerate(zip(batches(count), rates(count), strict=True)):
        if step < start or step >= (upto or count):
            continue
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        loss = (net(ids) - 1).square().sum() + 0.1 * net(ids.flip(0)).square().sum()
        loss.backward()
        optimizer.step()


def row_optimizer(net, **settings):
    tables = [module for module in net.modules() if isinstance(module, RowEmbedding)]
    assert len(tables) == 1
    return RowAdamW([{"params": list(net.parameters())}], tables, **settings)


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.99), (0.8, 0.9), (0.95, 0.98)])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_as_of_the_whole_table(betas, decay):
    dense, rows = made(), made()
    settings = {"lr": 1e-2, "betas": betas, "weight_decay": decay, "eps": 1e-12}
    train(dense, torch.optim.AdamW(dense.parameters(), **settings))
    with sparse_row_gradients(rows):
        train(rows, row_optimizer(rows, **settings))
    assert type(rows.table) is nn.Embedding
    seen = np.unique(np.concatenate([ids.flatten() for ids in batches(400)]))
    assert 20 < len(seen) < ROWS
    seen = seen[seen > 0]
    torch.testing.assert_close(
        rows.table.weight[seen], dense.table.weight[seen], rtol=2e-6, atol=2e-6
    )
    torch.testing.assert_close(rows.head.weight, dense.head.weight, rtol=2e-6, atol=2e-6)


def test_rows_that_never_occur_are_left_alone_where_they_are_known():
    net, before = made(), made().table.weight
    net.get_input_embeddings = lambda: net.table
    with sparse_row_gradients(net, np.arange(55)):
        train(net, row_optimizer(net, lr=1e-2, weight_decay=0.3), count=50)
    assert torch.equal(net.table.weight[55:], before[55:])
    assert not net.table.weight[1:55].eq(before[1:55]).any()


def test_a_rare_row_moves_on_by_its_momentum_which_a_lazy_update_forgets():
    dense, rows = made(), made()
    settings = {"lr": 1e-2, "weight_decay": 0.0}
    with sparse_row_gradients(rows):
        optimizers = (
            torch.optim.AdamW(dense.parameters(), **settings),
            row_optimizer(rows, **settings),
        )
        moved = []
        for net, optimizer in zip((dense, rows), optimizers, strict=True):
            before = net.table.weight[50].detach().clone()
            for step in range(60):
                optimizer.zero_grad()
                net(torch.tensor([[50 if step == 0 else 3, 4]])).sum().backward()
                optimizer.step()
                if step == 0:
                    first = (net.table.weight[50].detach() - before).abs().mean()
            net.eval()
            moved.append(((net.table.weight[50] - before).abs().mean() / first).item())
    assert moved[0] == pytest.approx(moved[1], rel=1e-4)
    assert moved[0] > 4


def test_resumed_it_goes_on_to_the_bit():
    settings = {"lr": 1e-2, "weight_decay": 0.1}
    whole, first, second = made(), made(), made()
    with sparse_row_gradients(whole):
        optimizer = row_optimizer(whole, **settings)
        train(whole, optimizer, upto=200)
        optimizer.state_dict()
        train(whole, optimizer, start=200)
    with sparse_row_gradients(first):
        optimizer = row_optimizer(first, **settings)
        train(first, optimizer, upto=200)
        saved = copy.deepcopy((optimizer.state_dict(), first.state_dict()))
    with sparse_row_gradients(second):
        optimizer = row_optimizer(second, **settings)
        second.load_state_dict(saved[1])
        optimizer.load_state_dict(saved[0])
        train(second, optimizer, start=200)
    for one, other in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


def test_evaluated_and_saved_it_is_up_to_date():
    dense, rows = made(), made()
    settings = {"lr": 1e-2, "weight_decay": 0.1}
    train(dense, torch.optim.AdamW(dense.parameters(), **settings))
    with sparse_row_gradients(rows):
        train(rows, row_optimizer(rows, **settings))
        state = copy.deepcopy(rows.state_dict())
        rows.eval()
        answers = rows(torch.arange(1, 30)[None])
    assert list(state) == list(dense.state_dict())
    torch.testing.assert_close(
        state["table.weight"][1:20], dense.table.weight[1:20], rtol=1e-5, atol=1e-5
    )
    assert torch.equal(answers, rows.eval()(torch.arange(1, 30)[None]))


def test_the_gradient_is_that_of_the_table():
    dense, rows = made(), made()
    ids = torch.tensor([[0, 3, 3], [7, 3, 0]])
    dense(ids).square().sum().backward()
    with sparse_row_gradients(rows):
        rows(ids).square().sum().backward()
        gradient = rows.table.weight.grad
    assert gradient.is_sparse
    gradient = gradient.coalesce()
    assert gradient.indices().tolist() == [[0, 3, 7]]
    torch.testing.assert_close(gradient.to_dense(), dense.table.weight.grad)


def test_left_alone_where_it_would_be_wrong_or_useless(monkeypatch):
    tied, frozen, small = made(), made(), made()
    tied.other = nn.Linear(WIDTH, ROWS, bias=False)
    tied.other.weight = tied.table.weight
    frozen.table.weight.requires_grad_(False)
    for net in (tied, frozen):
        with sparse_row_gradients(net):
            assert type(net.table) is nn.Embedding
    monkeypatch.setattr(row_embedding, "MIN_ROWS", 100)
    with sparse_row_gradients(small):
        assert type(small.table) is nn.Embedding


@pytest.mark.parametrize(
    ("betas", "can"),
    [((0.9, 0.999), True), ((0.0, 0.5), True), ((0.9, 0.8), False), ((0.5, 0.0), False)],
)
def test_only_where_a_waiting_rows_moves_shrink(betas, can):
    assert rows_can_wait(betas) is can
    assert AdamW(betas=betas).defers_rows is can
