from scoreline.pipelines.load_test.budget import Budget


def test_a_step_that_does_not_fit_is_left_out_and_named():
    now = [0.0]
    budget = Budget(100, lambda: now[0])
    assert budget.allows(60, "the search")
    now[0] = 70
    assert not budget.allows(60, "the spike")
    assert budget.allows(30, "the page")
    assert budget.cut == ["the spike (needs 60 s, 30 s were left)"]


def test_without_a_budget_everything_fits():
    budget = Budget(None)
    assert budget.allows(1e9, "all")
    assert budget.cut == []
