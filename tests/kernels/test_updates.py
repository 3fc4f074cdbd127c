"""Every update kernel against its definition: dtypes, duplicates, options, odd shapes, threads, processes."""

import math
import multiprocessing
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from catembed.kernels import reference
from catembed.kernels.dispatch import kernel
from catembed.storage import zeros

CPU = torch.device("cpu")
KERNELS = ("update_sgd", "update_adagrad", "update_rowwise_adagrad", "update_adam")
F32, F64, F16, BF16 = torch.float32, torch.float64, torch.float16, torch.bfloat16
DTYPES = [  # weight, gradients, state
    (F32, F32, F32),
    (F64, F64, F64),
    (BF16, BF16, F32),
    (BF16, F32, F32),
    (F16, F16, F32),
    (F16, F32, F16),
]


def options(name, **changed):
    common = {"weight_decay": 0.0, "maximize": False, "grad_scale": 1.0, "frozen": None, "rounding": None}
    own = {
        "update_sgd": {"lr": 0.1, "momentum": 0.9, "dampening": 0.0, "nesterov": False},
        "update_adagrad": {"lr": 0.1, "eps": 1e-10},
        "update_rowwise_adagrad": {"lr": 0.1, "eps": 1e-10},
        "update_adam": {
            "lr_factor": 0.01,
            "weight_factor": 0.999,
            "beta1": 0.9,
            "beta2": 0.999,
            "denominator_factor": 1.7,
            "eps": 1e-8,
        },
    }[name]
    return common | own | changed


def make(name, rows, columns, dtypes=(F32, F32, F32), seed=0):
    """A weight and the state that the kernel takes."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=generator).to(dtypes[0])
    shape = {"update_adam": (rows, 2, columns), "update_rowwise_adagrad": (rows,)}.get(name, (rows, columns))
    state_dtype = (F64 if dtypes[0] == F64 else F32) if name == "update_rowwise_adagrad" else dtypes[2]
    return weight, torch.rand(shape, generator=generator).to(state_dtype)


def run(function, weight, state, ids, grads, given):
    """Copies of weight and state after one update."""
    weight, state = weight.clone(), None if state is None else state.clone()
    function(weight, state, reference.group(ids, len(weight)), grads, **given)
    return weight, state


def assert_close(ours, theirs, *, dtype):
    """Equal up to a few roundings of the arithmetic; 16-bit results may fall on either side of a tie."""
    if ours is None:
        assert theirs is None
        return
    arithmetic = {F64: 2**-50}.get(dtype, 2**-20)
    stored = {F16: 2**-10, BF16: 2**-7}.get(ours.dtype, arithmetic)
    torch.testing.assert_close(ours, theirs, rtol=stored, atol=arithmetic, equal_nan=True)


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("dtypes", DTYPES, ids=str)
def test_update_is_that_of_the_definition(name, dtypes):
    @given(
        ids=st.lists(st.integers(0, 11), max_size=40),
        columns=st.sampled_from([0, 1, 3, 16, 33]),
        decay=st.sampled_from([0.0, 0.1]),
        maximize=st.booleans(),
        scale=st.sampled_from([1.0, 0.25]),
        freeze=st.booleans(),
        nesterov=st.booleans(),
        seed=st.integers(0, 1000),
    )
    @settings(deadline=None, max_examples=40)
    def check(ids, columns, decay, maximize, scale, freeze, nesterov, seed):
        weight, state = make(name, 12, columns, dtypes, seed)
        grads = torch.randn(len(ids), columns, generator=torch.Generator().manual_seed(seed)).to(dtypes[1])
        frozen = (torch.arange(12) % 3 == 0).to(torch.uint8) if freeze else None
        given = options(name, weight_decay=decay, maximize=maximize, grad_scale=scale, frozen=frozen)
        if name == "update_sgd":
            given |= {"nesterov": nesterov, "dampening": 0.0 if nesterov else 0.3}
        ids = torch.tensor(ids, dtype=torch.int64)
        ours = run(kernel(name, CPU), weight, state, ids, grads, given)
        theirs = run(getattr(reference, name), weight, state, ids, grads, given)
        for mine, expected, before in zip(ours, theirs, (weight, state), strict=True):
            assert_close(mine, expected, dtype=dtypes[0])
            still = torch.ones(12, dtype=torch.bool)
            still[ids] = False
            if freeze:
                still |= frozen.bool()
            assert torch.equal(mine[still], before[still])

    check()


@pytest.mark.parametrize("name", KERNELS)
def test_error_against_float64_is_that_of_float32(name):
    weight, state = make(name, 50, 32)
    ids, grads = torch.randint(50, (400,)), torch.randn(400, 32)
    exact = run(getattr(reference, name), weight.double(), state.double(), ids, grads.double(), options(name))
    ours = run(kernel(name, CPU), weight, state, ids, grads, options(name))
    theirs = run(getattr(reference, name), weight, state, ids, grads, options(name))
    for mine, plain, truth in zip(ours, theirs, exact, strict=True):
        bound = 2 * (plain.double() - truth).abs().max() + 2**-24
        assert (mine.double() - truth).abs().max() <= bound


def test_sgd_without_a_buffer():
    weight, _ = make("update_sgd", 10, 8)
    ids, grads = torch.tensor([3, 3, 7]), torch.randn(3, 8)
    given = options("update_sgd", weight_decay=0.1)
    ours, _ = run(kernel("update_sgd", CPU), weight, None, ids, grads, given)
    expected = weight.clone()
    for row, g in ((3, grads[0] + grads[1]), (7, grads[2])):
        expected[row] -= 0.1 * (g + 0.1 * weight[row])
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("name", KERNELS)
def test_gradients_with_gaps_or_of_one_expanded_row(name):
    weight, state = make(name, 10, 8)
    ids = torch.tensor([1, 5, 1, 9])
    for grads in (torch.randn(8, 16)[::2, ::2], torch.randn(1, 8).expand(4, 8), torch.randn(()).expand(4, 8)):
        ours = run(kernel(name, CPU), weight, state, ids, grads, options(name))
        theirs = run(kernel(name, CPU), weight, state, ids, grads.contiguous(), options(name))
        assert all(map(torch.equal, ours, theirs))


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_touches_its_row_alone(name, poison):
    weight, state = make(name, 10, 8)
    grads = torch.randn(3, 8)
    grads[1, 4] = poison
    ours = run(kernel(name, CPU), weight, state, torch.tensor([2, 5, 8]), grads, options(name))
    theirs = run(getattr(reference, name), weight, state, torch.tensor([2, 5, 8]), grads, options(name))
    for mine, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, expected, equal_nan=True)
        assert not mine[5].isfinite().all()
        assert mine[[2, 8]].isfinite().all()


# Rounding


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("dtype", [F16, BF16])
def test_stochastic_rounding_draws_the_same_bits_as_the_definition(name, dtype):
    weight, state = make(name, 40, 24, (dtype, dtype, F32))
    torch.manual_seed(0)
    ids, grads = torch.randint(40, (60,)), torch.randn(60, 24).to(dtype)
    given = options(name, rounding=987654321)
    ours, _ = run(kernel(name, CPU), weight, state, ids, grads, given)
    theirs, _ = run(getattr(reference, name), weight, state, ids, grads, given)
    nearest, _ = run(kernel(name, CPU), weight, state, ids, grads, options(name))
    assert (ours == theirs).float().mean() > 0.99  # a last bit of the arithmetic may tip a draw
    assert not torch.equal(ours, nearest)
    other, _ = run(kernel(name, CPU), weight, state, ids, grads, options(name, rounding=5))
    assert not torch.equal(ours, other)


@pytest.mark.parametrize("dtype", [F16, BF16])
@pytest.mark.parametrize("value", [1.001, -3.3, 1e-5 * 1.03, -7e-6])
def test_stochastic_rounding_is_right_on_average(dtype, value):
    weight = torch.zeros(2000, 64, dtype=dtype)
    grads = torch.full((2000, 64), -value)
    given = options("update_sgd", lr=1.0, momentum=0.0, rounding=3)
    ours, _ = run(kernel("update_sgd", CPU), weight, None, torch.arange(2000), grads, given)
    kinds = ours.unique()
    assert len(kinds) == 2
    gap = float(kinds[1].double() - kinds[0].double())
    assert abs(float(ours.double().mean()) - value) < 5 * 0.5 * gap / math.sqrt(ours.numel())


def test_bfloat16_moments_keep_small_changes_on_average():
    weight = torch.zeros(4000, 16)
    moments = torch.ones(4000, 2, 16, dtype=BF16)
    ids, grads = torch.arange(4000), torch.zeros(4000, 16)
    for step in range(20):
        kernel("update_adam", CPU)(
            weight, moments, reference.group(ids, 4000), grads, **options("update_adam", state_seed=step)
        )
    assert abs(float(moments[:, 1].double().mean()) - 0.999**20) < 2e-4


# Threads and processes


@pytest.mark.parametrize("name", KERNELS)
def test_same_bits_for_any_number_of_threads(name):
    weight, state = make(name, 3000, 64)
    ids = torch.randint(3000, (20_000,)) // torch.randint(1, 3000, (20_000,))
    grads = torch.randn(20_000, 64)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 8):
            torch.set_num_threads(threads)
            results.append(run(kernel(name, CPU), weight, state, ids, grads, options(name)))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


def _one_update(seed):
    """A weight after an update large enough for several threads, and its sum."""
    weight, state = make("update_adam", 5000, 64, seed=seed)
    grads = torch.randn(20_000, 64, generator=torch.Generator().manual_seed(seed))
    ids = torch.randint(5000, (20_000,), generator=torch.Generator().manual_seed(seed))
    return run(kernel("update_adam", CPU), weight, state, ids, grads, options("update_adam"))[0].double().sum().item()


def test_two_python_threads_at_once():
    expected = [_one_update(0), _one_update(1)]
    found: list[list[float]] = [[], []]
    workers = [
        threading.Thread(target=lambda seed=seed: found[seed].extend(_one_update(seed) for _ in range(10)))
        for seed in (0, 1)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found == [[expected[0]] * 10, [expected[1]] * 10]


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this platform")
def test_in_a_forked_child(in_forked_child):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        weight, state = make("update_adam", 5000, 64)
        groups, grads = reference.group(torch.randint(5000, (20_000,)), 5000), torch.randn(20_000, 64)
        update = kernel("update_adam", CPU)

        def after_update():
            # NumPy and our kernels alone: torch's own thread pool does not survive a fork
            table, moments = weight.numpy().copy(), state.numpy().copy()
            update(torch.from_numpy(table), torch.from_numpy(moments), groups, grads, **options("update_adam"))
            return table.tobytes()

        expected = after_update()  # now the parent's pool has a thread that the child will not have
        assert in_forked_child(after_update) == expected
        assert after_update() == expected
    finally:
        torch.set_num_threads(before)


# Large tables


@pytest.mark.parametrize("name", KERNELS)
def test_tables_beyond_two_to_the_31_numbers(name):
    rows, columns = 40_000_000, 64  # 2.56e9 numbers, of which a few pages are ever touched
    weight = zeros((rows, columns))
    shape = {"update_adam": (rows, 2, columns), "update_rowwise_adagrad": (rows,)}.get(name, (rows, columns))
    state = zeros(shape)
    ids = torch.tensor([rows - 1, 0, 35_000_000, rows - 1])
    grads = torch.randn(4, columns)
    kernel(name, CPU)(weight, state, kernel("group", CPU)(ids, rows), grads, **options(name))
    small_state = torch.zeros(3, *shape[1:])
    small, _ = run(getattr(reference, name), torch.zeros(3, columns), small_state, torch.tensor([2, 0, 1, 2]), grads,
                   options(name))  # fmt: skip
    torch.testing.assert_close(weight[[0, 35_000_000, rows - 1]], small)
    assert not weight[[1, rows - 2, 35_000_001, rows % 2**31 // columns]].any()


# Norms


@given(ids=st.lists(st.integers(0, 5), max_size=30), columns=st.sampled_from([0, 1, 17]), scale=st.floats(0.1, 10))
@settings(deadline=None, max_examples=60)
def test_norms_are_those_of_the_dense_gradient(ids, columns, scale):
    grads = torch.randn(len(ids), columns)
    dense = torch.zeros(6, columns).index_add_(0, torch.tensor(ids, dtype=torch.int64), grads)
    groups = reference.group(torch.tensor(ids, dtype=torch.int64), 6)
    expected = float((dense.double() * scale).square().sum())
    for norms in (kernel("row_norms", CPU), reference.row_norms):
        assert norms(groups, grads, scale) == pytest.approx(expected, rel=1e-5)


def test_norms_do_not_depend_on_threads():
    groups, grads = reference.group(torch.randint(30_000, (40_000,)), 30_000), torch.randn(40_000, 32)
    before = torch.get_num_threads()
    try:
        found = set()
        for threads in (1, 2, 8):
            torch.set_num_threads(threads)
            found.add(kernel("row_norms", CPU)(groups, grads, 1.0))
    finally:
        torch.set_num_threads(before)
    assert len(found) == 1
