"""The work of `benchmarks.peers` in SQLAlchemy 2, Core and ORM, on asyncpg."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from sqlalchemy import BigInteger, FetchedValue, ForeignKey, exists, insert, select, true, update
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, selectinload

from benchmarks import data

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AsyncExitStack

    from sqlalchemy.ext.asyncio import AsyncEngine


class Base(DeclarativeBase):
    """The types of both tables."""

    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's form
        int: BigInteger,
        datetime: TIMESTAMP(timezone=True),
        dict[str, Any]: JSONB,
    }


class Response(Base):
    """A response."""

    __tablename__ = "assessment_responses"

    response_id: Mapped[int] = mapped_column(primary_key=True)
    anonymous_token: Mapped[UUID | None]
    user_id: Mapped[int | None]
    question_id: Mapped[str]
    module_slug: Mapped[str]
    learning_outcome_id: Mapped[str | None]
    content_id: Mapped[UUID | None]
    answer_text: Mapped[str]
    answer_metadata: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=FetchedValue())
    scores: Mapped[list[Score]] = relationship(viewonly=True)


class Score(Base):
    """A score."""

    __tablename__ = "assessment_scores"

    score_id: Mapped[int] = mapped_column(primary_key=True)
    response_id: Mapped[int] = mapped_column(ForeignKey(Response.response_id))
    score_data: Mapped[dict[str, Any]]
    model_id: Mapped[str | None]
    prompt_version: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=FetchedValue())


RESPONSES: Any = Response.__table__
SCORES: Any = Score.__table__
_NEWEST = (RESPONSES.c.created_at.desc(), RESPONSES.c.response_id.desc())
_BY = {"model_id": "model-2", "prompt_version": "p2"}
_ROWS = {"page of 20": 20, "page of 100": 100}


def new_response(work: str) -> dict[str, Any]:
    """Return the columns of the response to store."""
    metadata = data.METADATA if work == "submit, metadata" else {}
    return {"anonymous_token": _TOKEN, "answer_metadata": metadata, **data.RESPONSE}


_TOKEN = uuid4()


def _unclaimed(token: UUID) -> tuple[Any, Any]:
    other = RESPONSES.alias()
    answered = exists().where(
        other.c.user_id == data.CLAIMER, other.c.question_id == RESPONSES.c.question_id
    )
    return RESPONSES.c.anonymous_token == token, ~answered


def core(engine: AsyncEngine) -> Callable[[str, Any], Awaitable[Any]]:
    """Return the way of SQLAlchemy Core, with dicts for rows."""
    mine = RESPONSES.c.user_id == data.READER

    def expression(work: str, given: Any) -> Any:
        if work.startswith("submit"):
            return insert(RESPONSES).values(**new_response(work)).returning(RESPONSES)
        if work == "record_score":
            row = {"response_id": given, "score_data": data.SCORE, **_BY}
            return insert(SCORES).values(**row).returning(SCORES)
        if work == "claim of 10":
            moved = {"user_id": data.CLAIMER, "anonymous_token": None}
            return update(RESPONSES).where(*_unclaimed(given)).values(**moved)
        if work == "latest of 50 questions":
            return (
                select(RESPONSES)
                .where(mine, RESPONSES.c.question_id.in_(data.QUESTIONS))
                .distinct(RESPONSES.c.question_id)
                .order_by(RESPONSES.c.question_id, *_NEWEST)
            )
        page: Any = select(RESPONSES).where(mine).order_by(*_NEWEST)
        if work in _ROWS:
            return page.limit(_ROWS[work])
        page = page.limit(20).subquery()
        newest = (
            select(SCORES)
            .where(SCORES.c.response_id == page.c.response_id)
            .order_by(SCORES.c.created_at.desc(), SCORES.c.score_id.desc())
            .limit(1)
            .lateral()
        )
        columns = [column.label(f"score_{column.name}") for column in newest.c]
        return (
            select(page, *columns)
            .select_from(page.outerjoin(newest, true()))
            .order_by(page.c.created_at.desc(), page.c.response_id.desc())
        )

    async def do(work: str, given: Any) -> Any:
        async with engine.begin() as conn:
            result = await conn.execute(expression(work, given))
            if work == "claim of 10":
                return result.rowcount
            return [dict(row) for row in result.mappings()]

    return do


def orm(sessions: async_sessionmaker[AsyncSession]) -> Callable[[str, Any], Awaitable[Any]]:
    """Return the way of SQLAlchemy's ORM, with a session for each call."""
    mine = select(Response).where(Response.user_id == data.READER)
    newest = (Response.created_at.desc(), Response.response_id.desc())

    def query(work: str) -> Any:
        if work == "latest of 50 questions":
            return (
                mine.where(Response.question_id.in_(data.QUESTIONS))
                .distinct(Response.question_id)
                .order_by(Response.question_id, *newest)
            )
        if work in _ROWS:
            return mine.order_by(*newest).limit(_ROWS[work])
        return mine.order_by(*newest).limit(20).options(selectinload(Response.scores))

    async def do(work: str, given: Any) -> Any:
        async with sessions() as session, session.begin():
            if work.startswith("submit"):
                row: Any = Response(**new_response(work))
            elif work == "record_score":
                row = Score(response_id=given, score_data=data.SCORE, **_BY)
            elif work == "claim of 10":
                moved = {"user_id": data.CLAIMER, "anonymous_token": None}
                return await session.execute(
                    update(Response)
                    .where(*_unclaimed(given))
                    .values(**moved)
                    .execution_options(synchronize_session=False)
                )
            else:
                return (await session.scalars(query(work))).all()
            session.add(row)
            await session.flush()
            return row

    return do


async def open_ways(stack: AsyncExitStack, url: str) -> list[Callable[[str, Any], Awaitable[Any]]]:
    """Return the two ways on an engine that *stack* disposes of."""
    address = url.replace("postgresql://", "postgresql+asyncpg://", 1)
    engine = create_async_engine(address, pool_size=1, max_overflow=0)
    stack.push_async_callback(engine.dispose)
    return [core(engine), orm(async_sessionmaker(engine, expire_on_commit=False))]
