"""Routes whose endpoint takes a JSON body, without FastAPI's steps for dependencies."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import get_type_hints

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError

from kgrec.serving.errors import RequestError, message_of, shown

JSON = re.compile(r"application/(\S+\+)?json\s*(;|$)", re.IGNORECASE)


class BodyRoute(APIRoute):
    """A route that has pydantic read the JSON of ``endpoint(body, request)`` itself.

    FastAPI parses JSON in Python, checks the objects and resolves dependencies, which takes a third
    of a request's time outside the model. Routes without a body are as in FastAPI.
    """

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        """Function that answers a request."""
        if self.body_field is None:
            return super().get_route_handler()
        schema: type[BaseModel] = get_type_hints(self.endpoint)["body"]
        endpoint = self.endpoint

        async def handler(request: Request) -> Response:
            content_type = request.headers.get("content-type", "")
            if not JSON.match(content_type):  # a form of another site sends others unasked
                raise RequestError(
                    f"Content-Type: found {shown(content_type)}, expected application/json"
                )
            try:
                body = schema.model_validate_json(await request.body())
            except ValidationError as error:
                errors = error.errors(include_url=False)
                raise RequestError(message_of(errors, "body")) from None
            answer: Response = await endpoint(body, request)
            return answer

        return handler
