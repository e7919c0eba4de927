"""What lies at a provider behind the one key is reached by nobody, unless the file says that all may."""

from __future__ import annotations

import pytest

from lacuna_ts.policy.decide import Plan, decide


@pytest.fixture
def table(build):
    """Three providers of which one shares."""
    return build.table(
        build.provider("first", models={"m": {}}),
        build.provider("shared", shared_state=True),
        build.provider("other", dialects=("anthropic_messages",), shared_state=True),
    )


def ask(build, table, grants, model="m", **changes):
    """The provider that serves, or the code of the refusal."""
    question = build.question(build.rights(*grants), model, named=changes.pop("named", None))
    outcome = decide(question._replace(points_at="previous_response_id", **changes), table)
    return outcome.provider if isinstance(outcome, Plan) else outcome.code


@pytest.mark.parametrize(
    ("grants", "named", "expected"),
    [
        ([{}], None, "shared"),  # the preferred one cannot have it
        ([{}], "shared", "shared"),
        ([{}], "first", "not_yours"),
        ([{"providers": ["first"]}], None, "not_yours"),
        ([{"providers": ["first"]}], "shared", "no_provider"),
        ([{"models": {"x": {}}}], None, "model_not_granted"),  # what is asked comes before what it points at
        ([], None, "no_grant"),
    ],
)
def test_bodies_that_point(build, table, grants, named, expected):
    """A body that points at something goes only where that is shared; rights are judged first."""
    assert ask(build, table, grants, named=named) == expected


@pytest.mark.parametrize(
    ("grants", "named", "expected"),
    [
        ([{}], None, "shared"),
        ([{"models": {"x": {}}}], None, "shared"),
        ([{}], "first", "not_yours"),
        ([{}], "other", "other"),
        ([{"providers": ["first"]}], None, "not_yours"),
        ([{"providers": ["first"]}], "shared", "no_provider"),
        ([{"user_agents": ["codex"]}], None, "not_yours"),
        ([], None, "no_grant"),
    ],
)
def test_answers_by_their_ids(build, table, grants, named, expected):
    """Something asked for by its id names no model: it takes a grant for a provider that shares what it keeps."""
    assert ask(build, table, grants, model="", named=named, operation="stored") == expected


def test_the_same_model_without_pointing(build, table):
    """One decision is not taken for the other."""
    question = build.question(build.rights({"providers": ["first"]}), "m")
    assert decide(question, table).provider == "first"
    assert decide(question._replace(points_at="conversation"), table).code == "not_yours"
    assert "conversation" in decide(question._replace(points_at="conversation"), table).message
    assert decide(question, table).provider == "first"
