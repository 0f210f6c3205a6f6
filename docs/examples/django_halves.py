"""A middleware for Django in two halves, which a wrapped application needs no more.

Its name is to stand in the setting MIDDLEWARE.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.utils.deprecation import MiddlewareMixin

from aura_context import plan_context


if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


class PlanHalves(MiddlewareMixin):
    """Binds the plan that the path names until the view has returned."""

    def process_request(self, request: HttpRequest) -> None:
        """Enter the block, which the request keeps."""
        kept: Any = request
        kept.plan_block = plan_context(request.path.split("/")[1]).__enter__()

    def process_response(
        self, request: HttpRequest, response: HttpResponse
    ) -> HttpResponse:
        """Leave it, maybe in another thread and another Context."""
        kept: Any = request
        kept.plan_block.__exit__(None, None, None)
        return response
