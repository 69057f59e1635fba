"""The OpenAPI document as one HTML page: no script, no request to anybody, so it works in a closed network. Pure.

Rules: every text of the document is escaped; the page's own style is named by its hash in `POLICY`, and nothing else
may load or run.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, TypeAlias

__all__ = ["POLICY", "render"]

Json: TypeAlias = Mapping[str, Any]

_STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
code { font: 0.9em ui-monospace, monospace; overflow-wrap: anywhere }
details { border-top: 1px solid #8886; padding: 0.4rem 0 }
summary { cursor: pointer }
summary code:first-child { display: inline-block; min-width: 4.5rem; font-weight: bold }
table { border-collapse: collapse }
td, th { text-align: left; vertical-align: top; padding: 0.15rem 1rem 0.15rem 0 }
nav a { margin-right: 1rem }
"""
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""The page's Content-Security-Policy."""

_REFERENCE = "#/components/schemas/"


def render(document: Json) -> str:
    """The page of an OpenAPI document."""
    info = document["info"]
    title = f"{info['title']} {info['version']}"
    tags: dict[str, list[str]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            tags.setdefault(operation.get("tags", ["other"])[0], []).append(_operation(method, path, operation))
    schemas = document.get("components", {}).get("schemas", {})
    parts = [
        f"<h1>{escape(title)}</h1><p>{escape(info.get('summary', ''))}</p>",
        '<p>For programs: <a href="openapi.json">openapi.json</a>.</p>',
        f"<nav>{''.join(_link(f'tag-{tag}', tag) for tag in tags)}{_link('schemas', 'schemas')}</nav>",
        *(f'<h2 id="tag-{escape(tag)}">{escape(tag)}</h2>{"".join(found)}' for tag, found in tags.items()),
        '<h2 id="schemas">schemas</h2>',
        *(_schema(name, schema) for name, schema in sorted(schemas.items())),
    ]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>'
        f"<body>{''.join(parts)}</body></html>"
    )


def _link(anchor: str, text: str) -> str:
    return f'<a href="#{escape(anchor)}">{escape(text)}</a>'


def _operation(method: str, path: str, operation: Json) -> str:
    text = operation.get("description") or operation.get("summary", "")
    body = operation.get("requestBody", {}).get("content", {})
    answers = operation.get("responses", {})
    rows = [
        *(_parameter(parameter) for parameter in operation.get("parameters", [])),
        *(_row("body", kind, _type(content.get("schema", {}))) for kind, content in body.items()),
        *(_row("answer", code, _answer(answer)) for code, answer in answers.items()),
    ]
    who = "with a token" if operation.get("security") else ""
    return (
        f"<details><summary><code>{escape(method.upper())}</code> <code>{escape(path)}</code></summary>"
        f"<p>{escape(text)}</p><p>{who}</p><table>{''.join(rows)}</table></details>"
    )


def _parameter(parameter: Json) -> str:
    need = "" if parameter.get("required") else ", may be absent"
    said = parameter.get("description", "")
    return _row(parameter["in"], parameter["name"], f"{_type(parameter.get('schema', {}))}{need}. {escape(said)}")


def _answer(answer: Json) -> str:
    kinds = answer.get("content", {}).items()
    shown = ", ".join(f"{escape(kind)}: {_type(content.get('schema', {}))}" for kind, content in kinds)
    return shown or escape(answer.get("description", ""))


def _row(where: str, name: str, html: str) -> str:
    return f"<tr><td>{escape(where)}</td><td><code>{escape(name)}</code></td><td>{html}</td></tr>"


def _schema(name: str, schema: Json) -> str:
    required = schema.get("required", [])
    rows = "".join(
        _row("required" if field in required else "", field, f"{_type(found)} {escape(found.get('description', ''))}")
        for field, found in schema.get("properties", {}).items()
    )
    text = escape(schema.get("description", ""))
    return f'<h3 id="schema-{escape(name)}"><code>{escape(name)}</code></h3><p>{text}</p><table>{rows}</table>'


def _type(schema: Json) -> str:
    """A schema in a few words, as HTML."""
    if "$ref" in schema:
        name = str(schema["$ref"]).removeprefix(_REFERENCE)
        return _link(f"schema-{name}", name)
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return " or ".join(_type(one) for one in schema[several])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if "properties" in schema:
        fields = ", ".join(f"<code>{escape(name)}</code>: {_type(one)}" for name, one in schema["properties"].items())
        return f"{{{fields}}}"
    return " ".join([escape(_name(schema)), *_bounds(schema)])


def _name(schema: Json) -> str:
    if "enum" in schema:
        return " | ".join(repr(value) for value in schema["enum"])
    if "const" in schema:
        return repr(schema["const"])
    return str(schema.get("type", "anything"))


def _bounds(schema: Json) -> Iterator[str]:
    words = {
        "minimum": "at least",
        "maximum": "at most",
        "maxLength": "of at most (characters)",
        "pattern": "like",
        "default": "unless given",
    }
    for key, word in words.items():
        if key in schema:
            yield f"{word} <code>{escape(str(schema[key]))}</code>"
