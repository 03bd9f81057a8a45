"""A web service on SQLAlchemy's AsyncSession: its sign-in adds the user and claims, or neither.

DATABASE_URL=postgresql://… uvicorn examples.sqlalchemy_service:app

Cookies, sessions and answers to errors are those of examples/service.py.
"""

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID, uuid4

from fastapi import Body, Depends, FastAPI, Header, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from sqlalchemy import BigInteger, DateTime, Identity, func, make_url
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

import assessments
from assessments.sqlalchemy import asyncpg_connection
from examples import service
from examples.service import Sessions, Token, UserId


class Base(DeclarativeBase):
    """The host's tables, which exist before the library's migrations are applied."""


class User(Base):
    """A user of the host's. The library needs the name and the uniqueness of user_id."""

    __tablename__ = "users"

    user_id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)
    signed_in_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    claimed: Mapped[int] = mapped_column(server_default="0")


def database(request: Request) -> Any:
    """Return what makes a session."""
    return request.app.state.database


# A route begins its transaction itself: a dependency would commit after the reply.
Database = Annotated[async_sessionmaker[AsyncSession], Depends(database)]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Keep an engine for the application's lifetime."""
    url = make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+asyncpg")
    engine = create_async_engine(url)
    app.state.database = async_sessionmaker(engine)
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)
app.state.sessions = {}
app.put("/anonymous-token", status_code=204)(service.put_anonymous_token)
app.add_exception_handler(RequestValidationError, service.report_malformed_request)
app.add_exception_handler(assessments.InvalidInput, service.report_invalid_input)
app.add_exception_handler(assessments.SubmissionConflict, service.report_conflict)
app.add_exception_handler(assessments.UnknownUser, service.report_unknown_user)


@app.post("/session", status_code=201)
async def sign_in(
    response: Response,
    database: Database,
    sessions: Sessions,
    token: Token,
    email: Annotated[str, Body(embed=True)],
) -> dict[str, int]:
    """Sign the user in and claim this browser's responses, in one transaction."""
    # Real authentication goes here: this example trusts the request.
    signed_in = {"signed_in_at": func.now()}  # no key of users: see Locks in docs/reviewing.md
    added = insert(User).values(email=email, **signed_in)
    upsert = added.on_conflict_do_update(index_elements=[User.email], set_=signed_in)
    async with database.begin() as session:
        user = (await session.scalars(upsert.returning(User))).one()
        claimed = await assessments.claim_assessment_responses(
            await asyncpg_connection(session),
            anonymous_token=token or uuid4(),
            user_id=user.user_id,
        )
        user.claimed += claimed  # the host's own: an UPDATE at the commit, after the claim
        user_id = user.user_id
    sessions[session_id := secrets.token_urlsafe()] = user_id
    service.set_credential(response, "session", session_id)
    return {"claimed": claimed}


@app.post("/questions/{question_id}/responses", status_code=201)
async def submit(
    *,
    database: Database,
    question_id: str,
    user_id: UserId,
    token: Token,
    answer: service.Answer,
    idempotency_key: Annotated[UUID | None, Header()] = None,
) -> dict[str, int]:
    """Store a response for the signed-in user, or else for the anonymous owner."""
    if user_id is None and token is None:
        raise HTTPException(401, "no owner: PUT /anonymous-token or sign in, then retry")
    async with database.begin() as session:
        stored = await service.submit_or_find(
            await asyncpg_connection(session),
            user_id=user_id,
            anonymous_token=token,
            question_id=question_id,
            submission_key=idempotency_key,
            **answer.model_dump(),
        )
    return {"response_id": stored["response_id"]}


@app.get("/responses")
async def responses(database: Database, user_id: UserId, token: Token) -> list[dict[str, Any]]:
    """Return the newest responses of both owners, each with its newest score."""
    async with database.begin() as session:
        rows = await assessments.get_responses_with_latest_score(
            await asyncpg_connection(session),
            user_id=user_id,
            anonymous_token=token or uuid4(),
            limit=100,
        )
    shown = ("question_id", "answer_text", "created_at", "latest_score")
    return [{name: row[name] for name in shown} for row in rows]  # type: ignore[literal-required]
