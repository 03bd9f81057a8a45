"""A web service: submit answers, sign in, resume, page through responses, and erase them.

pgq --pg-dsn "$DATABASE_URL" install  # once: the tables of the queue of examples/worker.py
DATABASE_URL=postgresql://… uvicorn examples.service:app

Behind a proxy that terminates TLS; for development without TLS set INSECURE_COOKIES=1.
"""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any, TypedDict
from uuid import UUID, uuid4

import asyncpg
from fastapi import (
    APIRouter,
    Body,
    Cookie,
    Depends,
    FastAPI,
    Header,
    HTTPException,
    Query,
    Request,
)
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

import assessments
from assessments import (
    AssessmentResponse,
    AssessmentScore,
    InvalidInput,
    ResponseWithoutToken,
    ScoredResponseWithoutToken,
    SubmissionConflict,
    UnknownUser,
)
from examples.jobs import By, enqueue

# The scorer of new responses: its workers take the jobs.
SCORER = By(os.environ.get("MODEL", "m1"), os.environ.get("PROMPT_VERSION", "p1"))

router = APIRouter()

# Scripts cannot read the cookies, and other sites cannot post with them. Secure does not depend on
# the request: what comes from a proxy that terminates TLS is http.
COOKIE: Any = {
    "httponly": True,
    "samesite": "lax",
    "secure": os.environ.get("INSECURE_COOKIES") != "1",
}


def set_credential(response: Response, name: str, value: str) -> None:
    """Set or renew a cookie for 30 days."""
    response.set_cookie(name, value, max_age=30 * 24 * 3600, **COOKIE)


def anonymous_token(
    cookie: Annotated[str, Cookie(alias="anonymous_token")] = "",
) -> UUID | None:
    """Return this browser's token, or None if it has none or an invalid one."""
    try:
        token = UUID(cookie)
    except ValueError:
        return None
    return token if token.int else None  # the library refuses the nil UUID


def sessions(request: Request) -> Any:
    """Return the user of each session id."""
    return request.app.state.sessions


Sessions = Annotated[dict[str, int], Depends(sessions)]
SessionId = Annotated[str, Cookie(alias="session")]


def session_user(sessions: Sessions, session_id: SessionId = "") -> int | None:
    """Return the user of this browser's session, or None; refuse an unknown session."""
    if not session_id:
        return None
    if session_id not in sessions:
        raise HTTPException(401, "sign in again")
    return sessions[session_id]


Token = Annotated[UUID | None, Depends(anonymous_token)]
UserId = Annotated[int | None, Depends(session_user)]


def pool(request: Request) -> Any:
    """Return the application's pool."""
    return request.app.state.pool


class BothOwners(TypedDict):
    """Whose responses this browser may read and erase."""

    user_id: int | None
    anonymous_token: UUID


def owners(user_id: UserId, token: Token) -> BothOwners:
    """Return both owners: the user, and this browser's token with what is still unclaimed."""
    return {"user_id": user_id, "anonymous_token": token or uuid4()}  # a new one has nothing


Pool = Annotated[asyncpg.Pool, Depends(pool)]
Owners = Annotated[BothOwners, Depends(owners)]


class Answer(BaseModel):
    """The request of an answer box. The library validates the values."""

    module_slug: str
    answer_text: str
    answer_metadata: dict[str, Any] | None = None


# Responses are sent without the token, which is a credential.
class Page(BaseModel):
    """A page of a list, and the cursor of the next one, if there is one."""

    responses: Sequence[ScoredResponseWithoutToken]
    next: str | None


# The page awaits this before its first submission, so that a lost reply does not lose the token:
#   await navigator.locks.request("token", () => fetch("/anonymous-token", {method: "PUT"}));
#   const key = crypto.randomUUID();  // one for each submission; its retries send the same
# With the lock, tabs that open together share one token. Sign out under it, too: a renewal in
# flight would bring the old token back. No POST here: another site's form could send it.
@router.put("/anonymous-token", status_code=204)
async def put_anonymous_token(response: Response, token: Token) -> None:
    """Renew this browser's token, or create one if it has none or an invalid one."""
    set_credential(response, "anonymous_token", str(token or uuid4()))


@router.post("/session", status_code=201)
async def sign_in(
    *,
    response: Response,
    pool: Pool,
    sessions: Sessions,
    session_id: SessionId = "",
    token: Token,
    user_id: Annotated[int, Body(embed=True)],
) -> dict[str, int]:
    """Sign the user in and claim this browser's responses, in one transaction."""
    # Real authentication goes here: this example trusts the request.
    async with pool.acquire() as connection, connection.transaction():
        # The sign-in's other writes go here, and commit together with the claim.
        claimed = await assessments.claim_assessment_responses(
            connection, anonymous_token=token or uuid4(), user_id=user_id
        )
    sessions.pop(session_id, None)
    session_id = secrets.token_urlsafe()
    sessions[session_id] = user_id
    set_credential(response, "session", session_id)
    return {"claimed": claimed}


@router.delete("/session", status_code=204)
async def sign_out(response: Response, sessions: Sessions, session_id: SessionId = "") -> None:
    """End the session and delete both cookies: the browser's next user gets a new token."""
    sessions.pop(session_id, None)
    response.delete_cookie("session", **COOKIE)
    response.delete_cookie("anonymous_token", **COOKIE)


@router.post("/questions/{question_id}/responses", status_code=201)
async def submit(
    *,
    pool: Pool,
    question_id: str,
    user_id: UserId,
    token: Token,
    answer: Answer,
    idempotency_key: Annotated[UUID | None, Header()] = None,
) -> ResponseWithoutToken:
    """Store a response for the signed-in user, or else for the anonymous owner, and its job.

    Both are committed, or neither. A browser that creates an Idempotency-Key for each submission
    can retry it.
    """
    if user_id is None and token is None:
        raise HTTPException(401, "no owner: PUT /anonymous-token or sign in, then retry")
    async with pool.acquire() as connection, connection.transaction():
        stored = await submit_or_find(
            connection,
            user_id=user_id,
            anonymous_token=token,
            question_id=question_id,
            submission_key=idempotency_key,
            **answer.model_dump(),
        )
        await enqueue(connection, [stored["response_id"]], SCORER)
    return stored


async def submit_or_find(
    connection: Any, *, user_id: int | None, anonymous_token: UUID | None, **submission: Any
) -> AssessmentResponse:
    """Store a response for the user, or else for the anonymous owner; find it on a retry.

    A claim leaves with the token what the user had already answered: a retry with the session
    finds it there. The last try is for a claim that moves the row between the other two.
    """
    user, token = {"user_id": user_id}, {"anonymous_token": anonymous_token}
    owners: list[Any] = [user, token, user]
    if None in (user_id, anonymous_token):
        owners = [token if user_id is None else user]
    for owner in owners[:-1]:
        with suppress(SubmissionConflict):
            return await assessments.submit_response(connection, **owner, **submission)
    return await assessments.submit_response(connection, **owners[-1], **submission)


@router.get("/modules/{module_slug}/resume")
async def resume(pool: Pool, module_slug: str, owners: Owners) -> Sequence[ResponseWithoutToken]:
    """Return the newest response to each question of the module."""
    return await assessments.get_latest_responses(pool, **owners, module_slug=module_slug)


@router.get("/responses")
async def responses(
    pool: Pool,
    owners: Owners,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    before: str | None = None,
) -> Page:
    """Return a page of responses, newest first, each with its newest score."""
    rows = await assessments.get_responses_with_latest_score(
        pool, **owners, limit=limit + 1, before=assessments.decode_cursor(before)
    )
    page = rows[:limit]
    following = assessments.encode_cursor(page[-1]) if len(rows) > limit else None
    return Page(responses=page, next=following)


@router.get("/responses/{response_id}/scores")
async def scores(pool: Pool, response_id: int, owners: Owners) -> list[AssessmentScore]:
    """Return a response's scores, newest first; none if the response is another owner's."""
    return await assessments.get_scores(pool, response_id=response_id, **owners)


@router.get("/ready", status_code=204)
async def ready(pool: Pool) -> None:
    """Say that the database can be reached: the readiness probe."""
    await asyncio.wait_for(pool.fetchval("SELECT 1"), timeout=2)


@router.delete("/me")
async def erase(pool: Pool, owners: Owners) -> dict[str, int]:
    """Erase the responses of both owners, with their scores."""
    return {"erased": await assessments.delete_responses(pool, **owners)}


async def report_invalid_input(_request: Request, error: Any) -> JSONResponse:
    """Name the parameter that the library rejected, and the problem."""
    return JSONResponse({"parameter": error.parameter, "problem": error.problem}, 422)


async def report_malformed_request(_request: Request, error: Any) -> JSONResponse:
    """Name the parameter that FastAPI rejected; its own handler would quote the input."""
    first = error.errors()[0]
    names = [part for part in first["loc"] if isinstance(part, str)]
    return JSONResponse({"parameter": names[-1], "problem": first["type"]}, 422)


async def report_conflict(_request: Request, _error: Exception) -> JSONResponse:
    """Reject a reused key without revealing the stored response."""
    problem = "is already used by a different submission"
    return JSONResponse({"parameter": "idempotency-key", "problem": problem}, 422)


async def report_unknown_user(_request: Request, _error: Exception) -> JSONResponse:
    """Ask the user to sign in again: the account does not exist."""
    return JSONResponse({"detail": "sign in again"}, 401)


def open_pool() -> Any:
    """Return the library's pool, not yet connected."""
    return assessments.create_pool(os.environ["DATABASE_URL"])


def create_app(pool_factory: Callable[[], Any] = open_pool) -> FastAPI:
    """Return the application, with a pool from *pool_factory* for its lifetime.

    It does not start on a database that does not fit.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with pool_factory() as app.state.pool:
            findings = await assessments.check(app.state.pool)
            if errors := [found.message for found in findings if found.level == "error"]:
                raise RuntimeError("; ".join(errors))
            yield

    app = FastAPI(lifespan=lifespan)
    app.state.sessions = {}  # a real service's store is shared by its processes, and ends old ones
    app.include_router(router)
    app.add_exception_handler(InvalidInput, report_invalid_input)
    app.add_exception_handler(RequestValidationError, report_malformed_request)
    app.add_exception_handler(SubmissionConflict, report_conflict)
    app.add_exception_handler(UnknownUser, report_unknown_user)
    return app


app = create_app()
