"""A table of a report, independent of where it is shown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from kgrec.errors import printable
from kgrec.reports.foreign_text import markdown_text


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: text of the cell.
        kind: "" for values of kgrec, "published" for values of the paper (in italics), "control",
            "best", "command" or "name".
    """

    text: str
    kind: str = ""


@dataclass
class Table:
    """A table of a report.

    Attributes:
        title: title above the table.
        note: explanation below the table.
        header: column names.
        rows: cells, one of each column.
    """

    title: str
    note: str
    header: list[str]
    rows: list[list[Cell]] = field(default_factory=list)

    def add(self, name: str, cells: Iterable[str | Cell], kind: str = "") -> None:
        """Appends a row that begins with a name; cells without a kind get the row's kind."""
        row = [cell if isinstance(cell, Cell) else Cell(cell, kind) for cell in cells]
        self.rows.append([Cell(name, kind or "name"), *row])

    def has(self, kind: str) -> bool:
        """Whether any cell with text is of this kind."""
        return any(cell.kind == kind and cell.text for row in self.rows for cell in row)

    def markdown(self, heading: bool = True) -> str:
        """The table in Markdown; values of the paper in italics, the best in bold.

        Args:
            heading: whether the title is included.
        """
        marks = {"published": "*{}*", "best": "**{}**", "command": "`{}`"}
        lines = [
            "| " + " | ".join(map(markdown_text, self.header)) + " |",
            "|---|" + "--:|" * (len(self.header) - 1),
        ]
        for row in self.rows:
            texts = [marks.get(c.kind, "{}").format(_markdown(c)) if c.text else "" for c in row]
            lines.append("| " + " | ".join(texts) + " |")
        title = [f"### {markdown_text(self.title)}", ""] if heading else []
        return "\n".join([*title, *lines, "", self.note]).rstrip()


def _markdown(cell: Cell) -> str:
    """The text of a cell; a command stands in a code span, which shows it as it is."""
    if cell.kind != "command":
        return markdown_text(cell.text)
    return printable(cell.text).replace("|", "\\|").replace("`", "'").replace("\n", " ")
