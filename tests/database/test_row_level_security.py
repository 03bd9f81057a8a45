"""Under the policies of docs/reviewing.md a session sees its own rows, and plans stay as fast."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg
import pytest

import assessments
from assessments import backoffice
from assessments.queries import promised_indexes
from tests.helpers import roles
from tests.helpers.plans import PROMISING, buffers_of_a_page, generic_plan, indexes
from tests.helpers.roles import CALLS, RUNS, STRANGER, TOKEN, USER, executing, refused
from tests.helpers.rows import SECRET, questions, submit

if TYPE_CHECKING:
    from tests.helpers.roles import Connection, Login, Site

pytestmark = pytest.mark.usefixtures("policed")
COUNT_RESPONSES = "SELECT count(*) FROM assessment_responses"
COUNT_SCORES = "SELECT count(*) FROM assessment_scores"


@pytest.fixture
def assessments_database_url(governed: str) -> str:
    """Let ``conn`` be the superuser's connection to the database with the page's grants."""
    return governed


@pytest.fixture
async def policed(site: Site, governed: str) -> None:
    """Create the page's policies in that database."""
    await site.execute(governed, roles.POLICIES, "owner")


async def identify(conn: Connection, user_id: int | None = None, token: UUID | None = None) -> None:
    """Set the identities of the current transaction."""
    await conn.execute(roles.IDENTIFY, str(user_id or ""), str(token or ""))


async def test_with_both_identities_every_call_works(login: Login) -> None:
    """Under the policies the app's calls for an owner return what they return without them."""
    app = await login("app")
    async with app.transaction():
        await identify(app, USER, TOKEN)
        for calls in (CALLS, roles.ANONYMOUS_CALLS):
            assert await roles.allowed(app, calls) == RUNS["app"]

        key = uuid4()
        assert await CALLS["claim_assessment_responses"](app) == 1
        stored = await submit(app, "q", user_id=USER, submission_key=key)
        assert await submit(app, "q", user_id=USER, submission_key=key) == stored
        await backoffice.record_score(app, response_id=stored["response_id"], score_data={})
        scored = await assessments.get_responses_with_latest_score(app, user_id=USER)
        assert questions(scored) == ["q", "q1", "q2"]
        assert all(row["latest_score"] for row in scored)
        assert len(await CALLS["get_scores"](app)) == 1


async def test_sql_without_an_owner_reaches_only_own_rows(login: Login) -> None:
    """With one's own identities no statement reads, changes, scores or takes another's rows."""
    app = await login("app")
    async with app.transaction():
        await identify(app, USER, TOKEN)

        owners = "SELECT user_id, anonymous_token FROM assessment_responses ORDER BY response_id"
        assert [tuple(row) for row in await app.fetch(owners)] == [(USER, None), (None, TOKEN)]
        scored = "SELECT response_id FROM assessment_scores ORDER BY response_id"
        assert [key for (key,) in await app.fetch(scored)] == [roles.RESPONSE, roles.ANONYMOUS]
        assert len([row async for row in backoffice.iter_responses(app)]) == 2
        assert await assessments.get_responses(app, user_id=STRANGER) == []
        assert await assessments.get_scores(app, response_id=roles.FOREIGN, user_id=STRANGER) == []
        with pytest.raises(assessments.UnknownResponse):
            await CALLS["record_score"](app, response_id=roles.FOREIGN)
        give = "UPDATE assessment_responses SET user_id = $1 WHERE response_id = $2"
        assert await app.execute(give, USER, roles.FOREIGN) == "UPDATE 0"
        insert = (
            "INSERT INTO assessment_responses (user_id, question_id, module_slug, answer_text)"
            " VALUES ($1, 'q', 'm', 'A.')"
        )
        score = "INSERT INTO assessment_scores (response_id, score_data) VALUES ($1, '{}')"
        for act in ((give, STRANGER, roles.RESPONSE), (insert, STRANGER), (score, roles.FOREIGN)):
            assert await refused(app, executing(*act)), act


@pytest.mark.parametrize("owner", [{"user_id": STRANGER}, {"anonymous_token": roles.OTHER_TOKEN}])
@pytest.mark.parametrize("key", [None, UUID(int=5)])
async def test_a_refused_insert_reveals_nothing(
    login: Login, owner: dict[str, Any], key: UUID | None
) -> None:
    """A submission for another owner is a 42501 that names the table and quotes no row."""
    app = await login("app")
    async with app.transaction():
        await identify(app, USER, TOKEN)
        with pytest.raises(asyncpg.InsufficientPrivilegeError) as raised:
            async with app.transaction():
                await submit(app, **owner, answer_text=SECRET, submission_key=key)
        assert await assessments.get_responses(app, user_id=USER)

    shown = f"{raised.value!r} {raised.value.as_dict()}"
    assert 'policy for table "assessment_responses"' in shown
    assert SECRET not in shown
    assert str(roles.OTHER_TOKEN) not in shown


async def test_another_owner_s_submission_key_is_a_conflict(login: Login) -> None:
    """A key whose row the policies hide is rejected like any key that is already used."""
    app, key = await login("app"), uuid4()
    async with app.transaction():
        await identify(app, STRANGER)
        await submit(app, user_id=STRANGER, submission_key=key)

    async with app.transaction():
        await identify(app, USER)
        with pytest.raises(assessments.SubmissionConflict):
            await submit(app, user_id=USER, submission_key=key)


async def test_without_identities_a_session_sees_nothing(login: Login) -> None:
    """Never set, set to nothing, or ended with their transaction: no rows, and no INSERT."""
    app = await login("app")
    setting = "SELECT current_setting('assessments.user_id', true)"

    async def is_closed() -> bool:
        counts = [await app.fetchval(count) for count in (COUNT_RESPONSES, COUNT_SCORES)]
        return counts == [0, 0] and await refused(app, CALLS["submit_response"])

    assert await app.fetchval(setting) is None
    assert await is_closed()
    async with app.transaction():
        await identify(app, USER)
        assert len(await assessments.get_responses(app, user_id=USER)) == 1
    assert await app.fetchval(setting) == ""
    assert await is_closed()
    async with app.transaction():
        await identify(app)
        assert await is_closed()


@pytest.mark.parametrize(
    ("user_id", "token", "claimed"), [(USER, None, 0), (None, TOKEN, None), (USER, TOKEN, 1)]
)
async def test_a_claim_needs_both_identities(
    login: Login, user_id: int | None, token: UUID | None, claimed: int | None
) -> None:
    """With the user alone a claim moves nothing; with the token alone it is refused."""
    app, claim = await login("app"), CALLS["claim_assessment_responses"]
    async with app.transaction():
        await identify(app, user_id, token)
        if claimed is None:
            assert await refused(app, claim)
        else:
            assert await claim(app) == claimed


async def test_the_service_s_own_roles_see_all_rows(login: Login) -> None:
    """Worker, eraser, transfer and analyst do under the policies what they do without them."""
    worker, analyst = await login("worker"), await login("analyst")

    assert await roles.allowed(worker) == RUNS["app"]
    assert len(await backoffice.get_unscored_responses(worker, model_id="none of theirs")) == 4
    await CALLS["record_score"](worker, response_id=roles.FOREIGN)
    assert await analyst.fetchval(COUNT_RESPONSES) == 4
    assert await analyst.fetchval(COUNT_SCORES) == 5
    await roles.transfer(await login("transfer"))
    eraser = await login("eraser")
    assert await assessments.delete_responses(eraser, user_id=STRANGER) == 1
    assert await CALLS["purge_anonymous_responses"](eraser) == 2
    assert await CALLS["purge_responses"](eraser) == 2  # with the one just imported


async def test_deleting_a_user_erases_rows_that_the_policies_hide(
    login: Login, conn: Connection
) -> None:
    """Foreign keys cascade to every row, even where the policies are forced on the owner."""
    owner, host = await login("owner"), await login("host")
    for table in ("assessment_responses", "assessment_scores"):
        await owner.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")

    await host.execute("DELETE FROM users WHERE user_id = $1", USER)

    assert [await conn.fetchval(count) for count in (COUNT_RESPONSES, COUNT_SCORES)] == [3, 3]


async def test_a_role_without_a_policy_sees_nothing_whatever_is_granted(login: Login) -> None:
    """A platform's grants to its public roles open no row to SELECT, INSERT, UPDATE or DELETE."""
    owner, public = await login("owner"), await login("host")
    await owner.execute("GRANT ALL ON assessment_responses, assessment_scores TO PUBLIC")

    assert [await public.fetchval(count) for count in (COUNT_RESPONSES, COUNT_SCORES)] == [0, 0]
    assert await public.execute("UPDATE assessment_responses SET user_id = user_id") == "UPDATE 0"
    assert await public.execute("DELETE FROM assessment_responses") == "DELETE 0"
    assert await refused(public, CALLS["submit_response"])


QUERIES_OF = {
    "worker": {
        *("get_unscored_responses", "get_responses_by_id", "get_scores_of_any_owner"),
        *(name for name in PROMISING if name.startswith("iter_")),
    },
    "eraser": {
        *("delete_responses", "purge_anonymous_responses", "count_anonymous_responses"),
        *("purge_responses", "count_responses"),
    },
    "transfer": {name for name in PROMISING if name.startswith("cli.")},
}
QUERIES_OF["app"] = set(PROMISING).difference(*QUERIES_OF.values())


OWNERS = re.compile(r"(?<=responses_(?:user|anon))_(?:id|question|module)$")


@pytest.mark.usefixtures("many")
async def test_every_query_keeps_its_indexes_under_the_policies(login: Login) -> None:
    """Each query uses the indexes it promises, and a setting is evaluated once."""
    for role, names in QUERIES_OF.items():
        conn = await login(role)
        for name in names:
            # The policies need columns, so no scan is index-only: of the indexes that begin with
            # the owner, whose ten rows they all find, PostgreSQL may take another.
            plan = await generic_plan(conn, name)
            promised = {OWNERS.sub("", index) for index in promised_indexes(name)}
            used = {OWNERS.sub("", index) for index in indexes(plan)}
            more = used - promised
            assert promised <= used, f"{name}\n{plan}"
            assert more <= {"assessment_responses_pkey"}, f"{name}\n{plan}"  # a score's policy
            assert "Seq Scan" not in plan, f"{name}\n{plan}"
            assert "current_setting" not in plan, f"{name}\n{plan}"  # but in an InitPlan, once


@pytest.mark.usefixtures("many")
async def test_a_page_of_a_heavy_user_touches_few_buffers_under_the_policies(login: Login) -> None:
    """The newest 20 of a user's 30,000 responses are read in index order, without a sort."""
    app = await login("app")
    await app.execute("SET plan_cache_mode = force_generic_plan")
    async with app.transaction():
        await identify(app, USER)
        assert await buffers_of_a_page(app) < 100
