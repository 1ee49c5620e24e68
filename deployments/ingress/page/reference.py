"""GET /docs: what the OpenAPI document says, for people. Plain HTML, so that it needs no script and no other host."""

from collections.abc import Iterator, Mapping
from html import escape
from json import dumps
from typing import Any

Schema = Mapping[str, Any]

HEAD = """<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <meta name="color-scheme" content="light dark">
  <title>{title}: API reference</title>
  <link rel="icon" href="/page/icon.svg" type="image/svg+xml">
  <link rel="stylesheet" href="/page/style.css">
</head>
<body>
  <header><h1>{title} {version}: API reference</h1></header>
  <main class="reference">
    <p>{description} For programs: <a href="/openapi.json">openapi.json</a>. To try it: <a href="/">the page</a>.</p>
"""

COLUMNS = "".join(f'<th scope="col">{name}</th>' for name in ("Field", "Takes", "By default"))


def reference_page(document: Schema) -> str:
    """
    Args:
        document: OpenAPI 3.1, in which schemas of bodies refer to nothing.
    """
    info = {name: escape(document["info"][name]) for name in ("title", "version", "description")}
    operations = (
        _operation(method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    )
    return HEAD.format(**info) + "".join(operations) + "  </main>\n</body>\n</html>\n"


def _operation(method: str, path: str, operation: Schema) -> str:
    parts = [f"<p>{escape(operation['summary'])}.</p>"]
    if parameters := operation.get("parameters"):
        fields = {parameter["name"]: parameter["schema"] for parameter in parameters}
        parts.append(_table("In the address", fields, {one["name"] for one in parameters if one["required"]}))
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        schema = content["schema"]
        parts.append(_table(media_type, schema["properties"], set(schema.get("required", ()))))
    title = escape(f"{method} {path}")
    return f'<section class="card" aria-label="{title}"><h2><code>{title}</code></h2>{"".join(parts)}</section>\n'


def _table(caption: str, fields: Mapping[str, Schema], required: set[str]) -> str:
    rows = "".join(_row(name, schema, name in required) for name, schema in fields.items())
    table = f"<table><caption>{escape(caption)}</caption><thead><tr>{COLUMNS}</tr></thead><tbody>{rows}</tbody></table>"
    return f'<div class="scroll" tabindex="0" role="group" aria-label="{escape(caption)}">{table}</div>'


def _row(name: str, schema: Schema, is_required: bool) -> str:
    takes = ". ".join(filter(None, [type_of(schema), schema.get("description")]))
    cells = f"<td>{escape(takes)}</td><td>{escape('required' if is_required else _default(schema))}</td>"
    return f'<tr><th scope="row"><code>{escape(name)}</code></th>{cells}</tr>'


def _default(schema: Schema) -> str:
    return dumps(schema["default"]) if schema.get("default") not in (None, "") else ""


def type_of(schema: Schema) -> str:
    """In words, with the bounds of numbers; of an object the names of its fields."""
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(dict.fromkeys(type_of(one) for one in choices if one.get("type") != "null"))
    if "const" in schema or "enum" in schema:
        return ", ".join(str(value) for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {type_of(schema.get('items', {}))}"
    if "properties" in schema:
        return f"{{{', '.join(schema['properties'])}}}"
    return " ".join([schema.get("format") or schema.get("type", "anything"), *_bounds(schema)])


def _bounds(schema: Schema) -> Iterator[str]:
    for name, sign in (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<")):
        if name in schema:
            yield f"{sign} {schema[name]:g}"
