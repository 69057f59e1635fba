"""The API's description on a running hub: whole, readable without a network, and allowed to do nothing."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

import httpx
import pytest

from hub.api.reference import render
from tests.hub_kit import HubKit


class Page(HTMLParser):
    """Tags, what they point to, anchors, and the style's text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: set[str] = set()
        self.anchors: set[str] = set()
        self.attributes: set[str] = set()
        self.texts: list[str] = []
        self.style = ""
        self._in_style = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self._in_style = tag == "style"
        for name, value in attrs:
            self.attributes.add(name)
            if name in ("href", "src"):
                self.links.add(value or "")
            if name == "id":
                self.anchors.add(value or "")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self._in_style:
            self.style += data
            self._in_style = False


@pytest.fixture
def answer(shared_kit: HubKit) -> httpx.Response:
    return shared_kit.client().get("/docs").raise_for_status()


def test_every_operation_is_described_without_a_token(shared_kit: HubKit, answer: httpx.Response) -> None:
    document = shared_kit.client().get("/openapi.json").raise_for_status().json()
    page = Page(answer.text)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert set(document["paths"]) <= set(page.texts)
    assert {f"schema-{name}" for name in document["components"]["schemas"]} <= page.anchors


def test_the_page_needs_nobody_and_runs_nothing(answer: httpx.Response) -> None:
    page = Page(answer.text)
    assert page.tags.isdisjoint({"script", "img", "iframe", "link", "object", "form", "base"})
    assert not any(name.startswith("on") or name == "style" for name in page.attributes)
    outside = {link for link in page.links if not link.startswith("#")}
    assert outside == {"openapi.json"}
    assert {link[1:] for link in page.links - outside} <= page.anchors


def test_the_policy_allows_the_pages_own_style_only(answer: httpx.Response) -> None:
    digest = base64.b64encode(hashlib.sha256(Page(answer.text).style.encode()).digest()).decode()
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["style-src"] == f"'sha256-{digest}'"
    assert "script-src" not in policy
    assert policy["frame-ancestors"] == "'none'"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_what_the_document_says_is_text_and_never_markup() -> None:
    evil = "<script>alert(1)</script>\"'"
    operation = {
        "tags": [evil],
        "description": evil,
        "parameters": [{"in": "query", "name": evil, "description": evil, "schema": {"type": evil, "pattern": evil}}],
        "requestBody": {"content": {evil: {"schema": {"properties": {evil: {"enum": [evil]}}}}}},
        "responses": {evil: {"description": evil, "content": {}}},
    }
    schema = {"description": evil, "properties": {evil: {"$ref": f"#/components/schemas/{evil}", "description": evil}}}
    page = render(
        {
            "info": {"title": evil, "version": evil, "summary": evil},
            "paths": {evil: {"get": operation}},
            "components": {"schemas": {evil: schema}},
        }
    )
    assert "<script" not in page
    assert not re.search(r"=\"[^\"]*<", page)
    assert Page(page).tags.isdisjoint({"script"})
