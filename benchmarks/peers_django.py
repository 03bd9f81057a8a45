"""The work of `benchmarks.peers` in Django's ORM, on psycopg 3.

Its calls are synchronous and so run without the thread that Django's asynchronous interface would
add to each.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import django
from django.conf import settings

from benchmarks import data

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AsyncExitStack

_TOKEN = uuid4()


def open_way(stack: AsyncExitStack, url: str) -> Callable[[str, Any], Awaitable[Any]]:
    """Return the way on a connection that *stack* closes. Django takes one URL a process."""
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"  # nothing else runs on this event loop
    parts = urlsplit(url)
    settings.configure(
        USE_TZ=True,
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": parts.path.lstrip("/"),
                "USER": parts.username,
                "HOST": parse_qs(parts.query)["host"][0],
            }
        },
    )
    django.setup()
    from django.db import connection  # noqa: PLC0415 - after the settings

    stack.callback(connection.close)
    return way(*_models())


def _models() -> tuple[Any, Any]:
    from django.db import models  # noqa: PLC0415 - after the settings

    class Response(models.Model):  # type: ignore[misc]  # noqa: DJ008 - never printed
        """A response."""

        response_id = models.BigAutoField(primary_key=True)
        anonymous_token = models.UUIDField(null=True)
        user_id = models.BigIntegerField(null=True)
        question_id = models.TextField()
        module_slug = models.TextField()
        learning_outcome_id = models.TextField(null=True)  # noqa: DJ001 - as the table has it
        content_id = models.UUIDField(null=True)
        answer_text = models.TextField()
        answer_metadata = models.JSONField(default=dict)
        created_at = models.DateTimeField(auto_now_add=True)

        class Meta:
            """The table as the migrations make it."""

            app_label = "benchmarks"
            managed = False
            db_table = "assessment_responses"

    class Score(models.Model):  # type: ignore[misc]  # noqa: DJ008
        """A score."""

        score_id = models.BigAutoField(primary_key=True)
        response = models.ForeignKey(Response, models.CASCADE, related_name="scores")
        score_data = models.JSONField()
        model_id = models.TextField(null=True)  # noqa: DJ001
        prompt_version = models.TextField(null=True)  # noqa: DJ001
        created_at = models.DateTimeField(auto_now_add=True)

        class Meta:
            """The table as the migrations make it."""

            app_label = "benchmarks"
            managed = False
            db_table = "assessment_scores"

    return Response, Score


def way(response: Any, score: Any) -> Callable[[str, Any], Awaitable[Any]]:
    """Return the way with these models."""

    def read(work: str) -> Any:
        mine = response.objects.filter(user_id=data.READER)
        newest = ("-created_at", "-response_id")
        if work == "latest of 50 questions":
            asked = mine.filter(question_id__in=data.QUESTIONS)
            return list(asked.order_by("question_id", *newest).distinct("question_id"))
        page = mine.order_by(*newest)
        if work == "page of 20 with scores":
            return list(page.prefetch_related("scores")[:20])
        return list(page[: int(work.rpartition(" ")[2])])

    async def do(work: str, given: Any) -> Any:
        if work.startswith("submit"):
            metadata = data.METADATA if work == "submit, metadata" else {}
            owned = {"anonymous_token": _TOKEN, "answer_metadata": metadata}
            return response.objects.create(**owned, **data.RESPONSE)
        if work == "record_score":
            by = {"model_id": "model-2", "prompt_version": "p2"}
            return score.objects.create(response_id=given, score_data=data.SCORE, **by)
        if work == "claim of 10":
            answered = response.objects.filter(user_id=data.CLAIMER).values("question_id")
            unclaimed = response.objects.filter(anonymous_token=given)
            open_ones = unclaimed.exclude(question_id__in=answered)
            return open_ones.update(user_id=data.CLAIMER, anonymous_token=None)
        return read(work)

    return do
