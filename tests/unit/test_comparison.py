import math
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from volatility.evaluation.comparison import diebold_mariano, model_confidence_set


def test_diebold_mariano_of_a_known_case() -> None:
    values = np.array([1.0, -2.0, 3.0, 0.0, 2.0, -1.0, 4.0, 1.0, 0.0, 2.0])  # mean 1
    centred = [0, -3, 2, -1, 1, -2, 3, 0, -1, 1]
    own = sum(x * x for x in centred) / 10  # 3.0
    next_but = sum(x * y for x, y in pairwise(centred)) / 10  # -1.8
    variance = own + 2 * 0.5 * next_but
    assert variance == pytest.approx(1.2)
    correction = math.sqrt((10 + 1 - 2 * 2 + 2 / 10) / 10)
    found = diebold_mariano(values, 1)
    assert found.statistic == pytest.approx(math.sqrt(10 / 1.2) * correction)
    assert found.p_value == pytest.approx(2 * stats.t.sf(found.statistic, 9))


def test_diebold_mariano_without_lags_is_close_to_the_t_test() -> None:
    values = np.random.default_rng(0).normal(0.2, 1.0, 200)
    expected = stats.ttest_1samp(values, 0.0)
    found = diebold_mariano(values, 0)
    assert found.statistic == pytest.approx(expected.statistic)
    assert found.p_value == pytest.approx(expected.pvalue)


def test_diebold_mariano_turns_its_sign_and_leaves_out_unknown_blocks() -> None:
    values = np.random.default_rng(1).normal(0.1, 1.0, 60)
    found = diebold_mariano(values, 3)
    turned = diebold_mariano(-values, 3)
    assert turned.statistic == -found.statistic
    assert turned.p_value == found.p_value
    assert diebold_mariano(np.insert(values, 20, np.nan), 3) == found


@pytest.mark.parametrize(("lags", "least", "most"), [(0, 0.12, 0.25), (5, 0.02, 0.11)])
def test_diebold_mariano_rejects_a_true_null_seldom_where_lags_cover_it(
    lags: int, least: float, most: float
) -> None:
    random = np.random.default_rng(2)
    rejected = 0
    for _ in range(500):
        noise = random.normal(size=103)
        blocks = noise[3:] + 0.7 * noise[2:-1] + 0.4 * noise[1:-2]
        rejected += diebold_mariano(blocks, lags).p_value < 0.05
    assert least <= rejected / 500 <= most


def test_diebold_mariano_of_a_difference_that_never_changes() -> None:
    assert diebold_mariano(np.zeros(20), 2).statistic == 0.0
    assert diebold_mariano(np.zeros(20), 2).p_value == 1.0
    assert diebold_mariano(np.full(20, -0.1), 2).statistic == -math.inf
    assert diebold_mariano(np.full(20, -0.1), 2).p_value == 0.0


def test_few_blocks_decide_nothing() -> None:
    found = diebold_mariano(np.arange(9.0), 1)
    assert math.isnan(found.statistic)
    assert math.isnan(found.p_value)
    undecided = model_confidence_set({"a": np.arange(9.0), "b": np.arange(9.0) + 1.0})
    assert undecided.included == ("a", "b")
    assert all(math.isnan(value) for value in undecided.p_values.values())


def losses() -> dict[str, np.ndarray]:
    random = np.random.default_rng(3)
    market = random.normal(size=120)  # common to all: what the paired test removes
    return {
        "bad": market + random.normal(1.0, 0.3, 120),
        "good": market + random.normal(0.0, 0.3, 120),
        "like": market + random.normal(0.0, 0.3, 120),
    }


def test_the_confidence_set_excludes_what_is_worse() -> None:
    found = model_confidence_set(losses())
    assert found.included == ("good", "like")
    assert list(found.p_values) == ["bad", "good", "like"]
    assert found.p_values["bad"] < 0.01
    assert max(found.p_values["good"], found.p_values["like"]) == 1.0
    assert model_confidence_set(losses()) == found


def test_p_values_do_not_depend_on_the_order_of_the_models() -> None:
    table = losses() | {"between": losses()["good"] + np.linspace(-0.1, 0.16, 120)}
    found = model_confidence_set(table)
    turned = model_confidence_set(dict(reversed(table.items())))
    assert turned.p_values == pytest.approx(found.p_values, abs=0.02)
    assert set(turned.included) == set(found.included)


def test_equal_and_shifted_models() -> None:
    table = losses()
    more = table | {"twin": table["good"].copy(), "shifted": table["like"] + 0.01}
    found = model_confidence_set(more)
    assert found.included == ("good", "like", "twin")
    assert found.p_values["twin"] == found.p_values["good"]
    assert found.p_values["shifted"] == 0.0


@pytest.mark.parametrize(
    ("table", "included"),
    [
        ({"a": np.full(40, 0.5)}, ("a",)),
        ({"a": np.full(40, 0.5), "b": np.full(40, 0.5)}, ("a", "b")),
        ({"a": np.full(40, 0.5), "b": np.full(40, 0.1)}, ("b",)),
        ({"a": np.tile([0.0, 1.0], 20), "b": np.tile([1.0, 0.0], 20)}, ("a", "b")),
        (
            {
                "a": np.tile([0.0, 1.0], 20),
                "b": np.tile([1.0, 0.0], 20),
                "c": np.full(40, 0.5),
            },
            ("a", "b", "c"),
        ),
    ],
)
def test_constant_and_tied_models(table: dict[str, np.ndarray], included: tuple[str, ...]) -> None:
    assert model_confidence_set(table).included == included


def test_blocks_that_one_model_lacks_do_not_count() -> None:
    table = losses()
    with_hole = {name: np.append(loss, 5.0) for name, loss in table.items()}
    with_hole["bad"][-1] = np.nan
    assert model_confidence_set(with_hole) == model_confidence_set(table)
