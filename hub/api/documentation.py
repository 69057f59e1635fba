"""The description of the API for people: `/docs`, beside `/openapi.json` for programs. Nothing in it is secret."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from hub.api.reference import POLICY, render

__all__ = ["router"]

router = APIRouter(include_in_schema=False)


@router.get("/docs")
def docs(request: Request) -> HTMLResponse:
    """One page that needs nothing but itself."""
    page = render(request.app.openapi())
    return HTMLResponse(page, headers={"Content-Security-Policy": POLICY})
