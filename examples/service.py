"""A web service: visitors answer, sign in, resume, page through what they wrote, and erase it.

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


def keep(request: Request, response: Response, name: str, value: str) -> None:
    """Set a cookie that is a credential: no script reads it, no other site posts with it."""
    https = request.url.scheme == "https"
    response.set_cookie(
        name, value, max_age=30 * 24 * 3600, httponly=True, samesite="lax", secure=https
    )


def visitor(
    request: Request, response: Response, visitor: Annotated[str | None, Cookie()] = None
) -> UUID:
    """Return this browser's token, a new one where it has none that is any good."""
    try:
        token = UUID(visitor or "")
    except ValueError:
        token = uuid4()
        keep(request, response, "visitor", str(token))
    return token


def sign(user: str) -> str:
    """Return *user* with a signature that only the holder of the secret can make."""
    secret = os.environ["SERVICE_SECRET"].encode()
    return f"{user}.{hmac.new(secret, user.encode(), hashlib.sha256).hexdigest()}"


def signed_in(session: Annotated[str | None, Cookie()] = None) -> int | None:
    """Return the user of this browser's session, or None; refuse a session that is not ours."""
    if session is None:
        return None
    user = session.partition(".")[0]
    if not hmac.compare_digest(session.encode(), sign(user).encode()):
        raise HTTPException(401, "sign in again")
    return int(user)


Visitor = Annotated[UUID, Depends(visitor)]
SignedIn = Annotated[int | None, Depends(signed_in)]


def pool(request: Request) -> Any:
    """Return the pool that the application opened."""
    return request.app.state.pool


def owners(user_id: SignedIn, token: Visitor) -> dict[str, Any]:
    """Return whose rows are read: the user's, and what this browser has not yet claimed."""
    return {"user_id": user_id, "anonymous_token": token}


Pool = Annotated[asyncpg.Pool, Depends(pool)]
Owners = Annotated[dict[str, Any], Depends(owners)]


class Answer(BaseModel):
    """What the answer box sends. The library checks it further."""

    module_slug: str
    answer_text: str
    answer_metadata: dict[str, Any] | None = None


@router.post("/sign-in")
async def sign_in(
    request: Request,
    response: Response,
    pool: Pool,
    token: Visitor,
    user_id: Annotated[int, Body(embed=True)],
) -> dict[str, int]:
    """Sign the user in and claim what this browser has answered, in one transaction."""
    # Real authentication goes here: this one believes whoever says who they are.
    async with pool.acquire() as connection, connection.transaction():
        # What else a sign-in writes goes here, and stands or falls with the claim.
        claimed = await assessments.claim_assessment_responses(
            connection, anonymous_token=token, user_id=user_id
        )
    keep(request, response, "session", sign(str(user_id)))
    return {"claimed": claimed}


@router.post("/sign-out", status_code=204)
async def sign_out(response: Response) -> None:
    """Forget both cookies: whoever comes next to this browser is another visitor."""
    response.delete_cookie("session")
    response.delete_cookie("visitor")


@router.post("/questions/{question_id}/responses", status_code=201)
async def submit(
    *,
    pool: Pool,
    question_id: str,
    user_id: SignedIn,
    token: Visitor,
    answer: Answer,
    idempotency_key: Annotated[UUID | None, Header()] = None,
) -> dict[str, Any]:
    """Store one attempt, the user's if one is signed in, else the visitor's.

    A browser that makes an Idempotency-Key for each attempt may send it until it has an answer.
    """
    stored = await assessments.submit_response(
        pool,
        user_id=user_id,
        anonymous_token=token if user_id is None else None,
        question_id=question_id,
        submission_key=idempotency_key,
        **answer.model_dump(),
    )
    return shown(stored)


@router.get("/modules/{module_slug}/resume")
async def resume(pool: Pool, module_slug: str, owners: Owners) -> list[dict[str, Any]]:
    """Return the newest answer to each question of the module."""
    latest = await assessments.get_latest_responses(pool, **owners, module_slug=module_slug)
    return [shown(row) for row in latest]


@router.get("/responses")
async def responses(
    pool: Pool,
    owners: Owners,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    before: str | None = None,
) -> dict[str, Any]:
    """Return a page of responses, newest first, each with its newest score."""
    rows = await assessments.get_responses_with_latest_score(
        pool, **owners, limit=limit, before=None if before is None else place(before)
    )
    full = len(rows) == limit
    return {"responses": [shown(row) for row in rows], "next": cursor(rows[-1]) if full else None}


@router.get("/responses/{response_id}/scores")
async def scores(pool: Pool, response_id: int, owners: Owners) -> list[Any]:
    """Return a response's scores, newest first; none where the response is not the asker's."""
    return await assessments.get_scores(pool, response_id=response_id, **owners)


@router.delete("/me")
async def erase(pool: Pool, owners: Owners) -> dict[str, int]:
    """Erase all that is the asker's."""
    return {"erased": await assessments.delete_responses(pool, **owners)}


def shown(row: Any) -> dict[str, Any]:
    """Return *row* without the token, which no script is to see."""
    return {name: value for name, value in row.items() if name != "anonymous_token"}


def cursor(row: Any) -> str:
    """Return the place of *row* in the list, as text that the client hands back as it is."""
    place = f"{row['created_at'].isoformat()} {row['response_id']}"
    return base64.urlsafe_b64encode(place.encode()).decode()


def place(cursor: str) -> tuple[datetime, int]:
    """Return what `cursor` wrote."""
    try:
        created_at, response_id = base64.urlsafe_b64decode(cursor).decode().split(" ")
        return datetime.fromisoformat(created_at), int(response_id)
    except ValueError:
        raise InvalidInput("before", "must be what `next` of a page was") from None


async def refused(_request: Request, error: Any) -> JSONResponse:
    """Name the parameter that the library refused, and what is wrong with it."""
    return JSONResponse({"parameter": error.parameter, "problem": error.problem}, 422)


async def malformed(_request: Request, error: Any) -> JSONResponse:
    """Name the parameter that FastAPI refused; its own handler would quote what was sent."""
    first = error.errors()[0]
    names = [part for part in first["loc"] if isinstance(part, str)]
    return JSONResponse({"parameter": names[-1], "problem": first["type"]}, 422)


async def conflict(_request: Request, _error: Exception) -> JSONResponse:
    """Refuse a key that stands for something else, and say nothing of what that is."""
    told = {"parameter": "idempotency-key", "problem": "stands for another answer"}
    return JSONResponse(told, 422)


async def unknown_user(_request: Request, _error: Exception) -> JSONResponse:
    """Ask the user to sign in: there is no such user, or no more."""
    return JSONResponse({"detail": "sign in again"}, 401)


def open_pool() -> Any:
    """Return a pool of the library's making, to be opened."""
    return assessments.create_pool(os.environ["DATABASE_URL"])


def create_app(pool_factory: Callable[[], Any] = open_pool) -> FastAPI:
    """Return the application, on the pool that *pool_factory* makes at its start."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with pool_factory() as app.state.pool:
            yield

    app = FastAPI(lifespan=lifespan)
    app.include_router(router)
    app.add_exception_handler(InvalidInput, refused)
    app.add_exception_handler(RequestValidationError, malformed)
    app.add_exception_handler(SubmissionConflict, conflict)
    app.add_exception_handler(UnknownUser, unknown_user)
    return app


app = create_app()
