"""A web service: submit answers, sign in, resume, page through responses, and erase them.

DATABASE_URL=postgresql://… SERVICE_SECRET=… uvicorn examples.service:app
"""

import base64
import hashlib
import hmac
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Any
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
from assessments import InvalidInput, SubmissionConflict, UnknownUser

router = APIRouter()


def set_credential(request: Request, response: Response, name: str, value: str) -> None:
    """Set a cookie that scripts cannot read and other sites cannot post with."""
    https = request.url.scheme == "https"
    response.set_cookie(
        name, value, max_age=30 * 24 * 3600, httponly=True, samesite="lax", secure=https
    )


def anonymous_token(
    request: Request,
    response: Response,
    cookie: Annotated[str | None, Cookie(alias="visitor")] = None,
) -> UUID:
    """Return this browser's token, a new one if it has none or an invalid one."""
    try:
        token = UUID(cookie or "")
    except ValueError:
        token = uuid4()
        set_credential(request, response, "visitor", str(token))
    return token


def sign(user: str) -> str:
    """Return *user* with a signature by the service's secret."""
    secret = os.environ["SERVICE_SECRET"].encode()
    return f"{user}.{hmac.new(secret, user.encode(), hashlib.sha256).hexdigest()}"


def session_user(session: Annotated[str | None, Cookie()] = None) -> int | None:
    """Return the user of this browser's session, or None; refuse a forged session."""
    if session is None:
        return None
    user = session.partition(".")[0]
    if not hmac.compare_digest(session.encode(), sign(user).encode()):
        raise HTTPException(401, "sign in again")
    return int(user)


Token = Annotated[UUID, Depends(anonymous_token)]
UserId = Annotated[int | None, Depends(session_user)]


def pool(request: Request) -> Any:
    """Return the application's pool."""
    return request.app.state.pool


def owners(user_id: UserId, token: Token) -> dict[str, Any]:
    """Return both owners: the user, and this browser's token with what is still unclaimed."""
    return {"user_id": user_id, "anonymous_token": token}


Pool = Annotated[asyncpg.Pool, Depends(pool)]
Owners = Annotated[dict[str, Any], Depends(owners)]


class Answer(BaseModel):
    """The request of an answer box. The library validates the values."""

    module_slug: str
    answer_text: str
    answer_metadata: dict[str, Any] | None = None


@router.post("/sign-in")
async def sign_in(
    request: Request,
    response: Response,
    pool: Pool,
    token: Token,
    user_id: Annotated[int, Body(embed=True)],
) -> dict[str, int]:
    """Sign the user in and claim this browser's responses, in one transaction."""
    # Real authentication goes here: this example trusts the request.
    async with pool.acquire() as connection, connection.transaction():
        # The sign-in's other writes go here, and commit together with the claim.
        claimed = await assessments.claim_assessment_responses(
            connection, anonymous_token=token, user_id=user_id
        )
    set_credential(request, response, "session", sign(str(user_id)))
    return {"claimed": claimed}


@router.post("/sign-out", status_code=204)
async def sign_out(response: Response) -> None:
    """Delete both cookies, so that the next person at this browser gets a new token."""
    response.delete_cookie("session")
    response.delete_cookie("visitor")


@router.post("/questions/{question_id}/responses", status_code=201)
async def submit(
    *,
    pool: Pool,
    question_id: str,
    user_id: UserId,
    token: Token,
    answer: Answer,
    idempotency_key: Annotated[UUID | None, Header()] = None,
) -> dict[str, Any]:
    """Store a response for the signed-in user, or else for the anonymous owner.

    A browser that creates an Idempotency-Key for each submission can retry it.
    """
    stored = await assessments.submit_response(
        pool,
        user_id=user_id,
        anonymous_token=token if user_id is None else None,
        question_id=question_id,
        submission_key=idempotency_key,
        **answer.model_dump(),
    )
    return without_token(stored)


@router.get("/modules/{module_slug}/resume")
async def resume(pool: Pool, module_slug: str, owners: Owners) -> list[dict[str, Any]]:
    """Return the newest response to each question of the module."""
    latest = await assessments.get_latest_responses(pool, **owners, module_slug=module_slug)
    return [without_token(row) for row in latest]


@router.get("/responses")
async def responses(
    pool: Pool,
    owners: Owners,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    before: str | None = None,
) -> dict[str, Any]:
    """Return a page of responses, newest first, each with its newest score."""
    rows = await assessments.get_responses_with_latest_score(
        pool, **owners, limit=limit, before=None if before is None else decode_cursor(before)
    )
    cursor = encode_cursor(rows[-1]) if len(rows) == limit else None
    return {"responses": [without_token(row) for row in rows], "next": cursor}


@router.get("/responses/{response_id}/scores")
async def scores(pool: Pool, response_id: int, owners: Owners) -> list[Any]:
    """Return a response's scores, newest first; none if the response is another owner's."""
    return await assessments.get_scores(pool, response_id=response_id, **owners)


@router.delete("/me")
async def erase(pool: Pool, owners: Owners) -> dict[str, int]:
    """Erase the responses of both owners, with their scores."""
    return {"erased": await assessments.delete_responses(pool, **owners)}


def without_token(row: Any) -> dict[str, Any]:
    """Return *row* without the token, which is a credential."""
    return {name: value for name, value in row.items() if name != "anonymous_token"}


def encode_cursor(row: Any) -> str:
    """Return the keyset cursor after *row*, as opaque text."""
    keyset = f"{row['created_at'].isoformat()} {row['response_id']}"
    return base64.urlsafe_b64encode(keyset.encode()).decode()


def decode_cursor(cursor: str) -> tuple[datetime, int]:
    """Return the keyset of a cursor from `encode_cursor`."""
    try:
        created_at, response_id = base64.urlsafe_b64decode(cursor).decode().split(" ")
        return datetime.fromisoformat(created_at), int(response_id)
    except ValueError:
        raise InvalidInput("before", "must be the `next` of a page") from None


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
    """Return the application, with a pool from *pool_factory* for its lifetime."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with pool_factory() as app.state.pool:
            yield

    app = FastAPI(lifespan=lifespan)
    app.include_router(router)
    app.add_exception_handler(InvalidInput, report_invalid_input)
    app.add_exception_handler(RequestValidationError, report_malformed_request)
    app.add_exception_handler(SubmissionConflict, report_conflict)
    app.add_exception_handler(UnknownUser, report_unknown_user)
    return app


app = create_app()
