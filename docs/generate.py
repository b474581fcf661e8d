"""The generated parts of the documentation: what the code says of itself, as Markdown.

A page holds ``<!-- generated: NAME -->`` where the part NAME of `PARTS` belongs. MkDocs calls
`on_page_markdown` for each page (mkdocs.yml, ``hooks``); the tests call `expand`.
"""

from __future__ import annotations

import html
import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from edgefx import api
from edgefx.cli import cli
from edgefx.cli.sections import SectionedCommand
from edgefx.metrics import METRICS
from edgefx.protocols import SILENT
from edgefx.recipe.schema import json_schema
from edgefx.report.schemas import DOCUMENTS
from edgefx.runtimes.onnx import passes as onnx
from edgefx.runtimes.openvino import passes as openvino
from edgefx.runtimes.passes import Pass
from edgefx.runtimes.tflite import passes as tflite
from edgefx.targets import ALL
from edgefx.vocabulary import Effort

_FOLDER = Path(__file__).resolve().parent
_PLACE = re.compile(r"^<!-- generated: (\S+) -->$", re.MULTILINE)
_METHODS = ("Ptq", "Qat", "None")  # sections that the key `quantize` stands for
_SECTION = re.compile(r"^(Args|Returns|Raises|Example):\n", re.MULTILINE)


def on_page_markdown(markdown: str, **_: object) -> str:
    """MkDocs' hook: fill in a page's generated parts."""
    return expand(markdown)


def expand(markdown: str) -> str:
    """Replace each ``<!-- generated: NAME -->`` by what it stands for.

    A name with a slash is the path of a program in the folder of this file.

    Raises:
        KeyError: There is no such part.
        OSError: There is no such program.
    """
    return _PLACE.sub(lambda place: _program(place[1]) if "/" in place[1] else PARTS[place[1]](), markdown)


def commands() -> Iterator[tuple[str, click.Command]]:
    """Yield every command with its full name, in the order of a user's work."""
    context = _context()
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        yield f"edgefx {name}", command
        if isinstance(command, click.Group):
            for inner in command.list_commands(context):
                found = command.get_command(context, inner)
                assert found is not None
                yield f"edgefx {name} {inner}", found


def _context() -> click.Context:
    """Return a context of the command line; commands remember the help option of the first that they see."""
    return click.Context(cli, info_name="edgefx", **cli.context_settings)


# ------------------------------------------------------------------------------------------------- parts


def _program(path: str) -> str:
    text = (_FOLDER / path).read_text(encoding="utf-8")
    return f"```{path.rpartition('.')[2]}\n{text}```"


def _cli() -> str:
    parts = ["## edgefx\n", "The options of `edgefx` itself, which every command takes as well:\n"]
    parts.append(_options(cli, _context()))
    for name, command in commands():
        context = click.Context(command, info_name=name.removeprefix("edgefx "), parent=_context())
        parts.append(f"{'##' if name.count(' ') == 1 else '###'} {name}\n")
        parts.append(
            f"```text\n{' '.join(command.get_usage(context).removeprefix('Usage: ').split())}\n```\n"
        )
        parts.append(_text(inspect.cleandoc(command.help or "").replace("\b\n", "")) + "\n")
        parts.append(_options(command, context))
        parts.extend(_epilog(command.epilog or ""))
    return "\n".join(parts)


def _options(command: click.Command, context: click.Context) -> str:
    if isinstance(command, SectionedCommand):
        return "\n".join(_rows(title, options, context) for title, options in command.sections(context))
    options = [one for one in command.get_params(context) if isinstance(one, click.Option)]
    return _rows("Option", options, context)


def _rows(title: str, options: Sequence[click.Option], context: click.Context) -> str:
    records = filter(None, (option.get_help_record(context) for option in options))
    return _table((title, "Meaning"), [(f"`{names}`", _text(meaning)) for names, meaning in records])


def _epilog(epilog: str) -> Iterator[str]:
    """Yield the blocks behind a command's options: lines of examples, or of explanation, as they are."""
    for block in epilog.replace("\b\n", "").split("\n\n"):
        first, _, rest = block.strip().partition("\n")
        if first.startswith("Example: "):
            first, rest = "Example:", first.removeprefix("Example: ")
        if rest:
            yield f"{first}\n\n```text\n{inspect.cleandoc(rest)}\n```\n"


def _recipe() -> str:
    schema = json_schema()
    sections = schema["$defs"]
    parts = [_keys(schema, sections)]
    for name, section in sections.items():
        if "properties" in section:
            heading = _heading(name)
            parts.append(
                f"## {heading}\n\n{_text(section.get('description', ''))}\n\n{_keys(section, sections)}"
            )
    return "\n".join(parts)


def _heading(name: str) -> str:
    """Return what the part of a schema is called on its page: a recipe's section by its key."""
    section = name.removesuffix("Section")
    if section == name:
        return name
    return f"quantize {section.lower()}" if section in _METHODS else section.lower()


def _keys(section: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    rows = []
    for key, value in section["properties"].items():
        default = value.get("default", "")
        plain = default if isinstance(default, str) else json.dumps(default)
        shown = "" if default == "" or isinstance(default, dict) else f"`{plain}`"
        rows.append((f"`{key}`", _type(value, definitions), shown, _text(value.get("description", ""))))
    return _table(("Key", "Value", "Default", "Meaning"), rows)


def _document(name: str) -> Callable[[], str]:
    """Return what writes the tables of a document, from its committed schema."""
    (path,) = (path for path in DOCUMENTS if path.name == name)

    def write() -> str:
        schema = json.loads(path.read_text(encoding="utf-8"))
        parts = [_fields(schema, schema["$defs"])]
        for title, section in schema["$defs"].items():
            if "properties" in section:
                parts.append(
                    f"## {title}\n\n{_text(section['description'])}\n\n{_fields(section, schema['$defs'])}"
                )
        return "\n".join(parts)

    return write


def _fields(section: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    rows = [
        (
            f"`{key}`",
            _type(value, definitions),
            _text(value.get("description") or _of_type(value, definitions)),
        )
        for key, value in section["properties"].items()
    ]
    return _table(("Field", "Value", "Meaning"), rows)


def _of_type(value: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Return what the schema says of the type that a field refers to; "" where it refers to none."""
    for part in (value, value.get("items", {}), *value.get("anyOf", [])):
        if "$ref" in part:
            return str(definitions[part["$ref"].rpartition("/")[2]].get("description", ""))
    return ""


def _type(  # noqa: PLR0911 - one return per kind of schema
    value: Mapping[str, Any], definitions: Mapping[str, Any]
) -> str:
    """Say in a few words what a schema allows."""
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        target = definitions[name]
        if "enum" in target:
            return ", ".join(f"`{choice}`" for choice in target["enum"])
        heading = _heading(name)
        return f"[{heading}](#{heading.lower().replace(' ', '-')})"
    if "enum" in value:
        return ", ".join(f"`{choice}`" for choice in value["enum"])
    if "const" in value:
        return f"`{value['const']}`"
    for several in ("anyOf", "oneOf"):
        if several in value:
            return _either(_type(choice, definitions) for choice in value[several])
    kind = value.get("type", "anything")
    if isinstance(kind, list):
        return _either(_type({**value, "type": one}, definitions) for one in kind)
    if kind == "array":
        items = value.get("items", {})
        of = (
            _type(items, definitions)
            if items
            else _either(_type(one, definitions) for one in value["prefixItems"])
        )
        return f"list of {of}"
    if kind == "string" and value.get("format"):
        return str(value["format"]).replace("-", " ")
    return str({"object": "mapping", "string": "text"}.get(kind, kind))


def _either(choices: Iterable[str]) -> str:
    return " or ".join(dict.fromkeys(choices))


def _python() -> str:
    parts = []
    for name in api.__all__:
        what = getattr(api, name)
        if not inspect.isfunction(what):
            continue
        signature = inspect.signature(what)
        arguments = ",\n".join(f"    {parameter}" for parameter in _parameters(signature))
        answer = signature.return_annotation
        parts.append(f"## edgefx.{name}\n\n```python\nedgefx.{name}(\n{arguments},\n) -> {answer}\n```\n")
        parts.append(_docstring(inspect.getdoc(what) or ""))
    return "\n".join(parts)


def _parameters(signature: inspect.Signature) -> Iterator[str]:
    starred = False
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            starred = True
            yield "*"
        mark = "**" if parameter.kind is parameter.VAR_KEYWORD else ""
        default = "" if parameter.default is parameter.empty else f" = {_default(parameter.default)}"
        yield f"{mark}{parameter.name}: {parameter.annotation}{default}"


def _default(value: object) -> str:
    return "SILENT" if value is SILENT else repr(value)


def _docstring(text: str) -> str:
    """Turn a docstring of Google's style into Markdown."""
    head, *rest = _SECTION.split(text)
    parts = [_text(head.strip())]
    for title, body in zip(rest[::2], rest[1::2], strict=True):
        lines = inspect.cleandoc(body)
        if title == "Example":
            parts.append(f"```pycon\n{lines}\n```")
        elif title == "Returns":
            parts.append(f"**Returns:** {_text(' '.join(lines.split()))}")
        else:
            entries = re.split(r"\n(?=\S)", lines)
            items = [re.sub(r"^([\w*]+): ", r"`\1`: ", " ".join(entry.split())) for entry in entries]
            heading = {"Args": "Arguments"}.get(title, title)
            parts.append(f"**{heading}:**\n\n" + "\n".join(f"- {_text(item)}" for item in items))
    return "\n\n".join(parts) + "\n"


def _targets() -> str:
    rows = [
        (
            f"`{row.name}`",
            "`.xml` + `.bin`" if row.suffix == ".xml" else f"`{row.suffix}`",
            ", ".join(row.io_dtypes),
            "needed" if row.needs_calibration else "",
            _text(row.summary),
        )
        for row in ALL.values()
    ]
    return _table(("Target", "File", "Input and output", "Calibration", "What it is"), rows)


def _passes() -> str:
    parts = []
    for title, module in (("TFLite", tflite), ("ONNX Runtime", onnx), ("OpenVINO", openvino)):
        table: Mapping[Any, Mapping[Effort, tuple[Pass, ...]]] = module.PASSES
        for precision, efforts in table.items():
            every = dict.fromkeys(one for effort in reversed(Effort) for one in efforts[effort])
            rows = []
            for one in every:
                told = " or ".join(sorted(one.without))
                rows.append(
                    (
                        f"`{one.name}`",
                        ", ".join(effort for effort, passes in efforts.items() if one in passes),
                        _text(f"{one.summary}{f' Left out where {told}.' if told else ''}"),
                    )
                )
            parts.append(f"### {title}, {precision}\n\n{_table(('Pass', 'Efforts', 'What it does'), rows)}")
    return "\n".join(parts)


def _metrics() -> str:
    rows = [
        (
            _text(row.heading),
            f"`{row.id}`",
            row.unit,
            f"`{row.gate}`" if row.gate else "",
            _text(row.meaning),
        )
        for row in METRICS.values()
    ]
    return _table(("Column", "Name", "Unit", "Gate", "Meaning"), rows)


# -------------------------------------------------------------------------------------------------- text


def _text(text: str) -> str:
    """Protect what Markdown would take for its own, outside of `code`."""
    parts = text.replace("``", "`").split("`")
    for number in range(0, len(parts), 2):
        parts[number] = re.sub(r"([*\[\]|])", r"\\\1", html.escape(parts[number], quote=False))
    return "`".join(parts)


def _table(titles: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    def line(cells: Iterable[str]) -> str:
        plain = [" ".join(cell.split()) for cell in cells]
        return f"| {' | '.join(plain)} |"

    return "\n".join([line(titles), line("---" for _ in titles), *map(line, rows)]) + "\n"


PARTS: Mapping[str, Callable[[], str]] = {
    "cli": _cli,
    "recipe": _recipe,
    "report": _document("report.schema.json"),
    "lock": _document("lock.schema.json"),
    "python": _python,
    "targets": _targets,
    "passes": _passes,
    "metrics": _metrics,
}
