"""What docs/architecture.md shows of the code's tables: the decision table and the states of a pair, as Markdown.

``python -m tests.world.documented`` writes them into the page; a test compares.
"""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

from sync.pairs.decision import VERDICTS, Side, Verdict
from sync.pairs.guards import GUARDS
from sync.pairs.reasons import HOLDS, Acts

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "architecture.md"

MEANS = {
    Verdict.IN_STEP: "link if the booking does not hold the event's id; clear the id if both ended; else nothing",
    Verdict.BOOKING_FOLLOWS: "move the booking, link it, or cancel it",
    Verdict.EVENT_FOLLOWS: "the pair waits for Outlook",
    Verdict.CONFLICT: "`CONFLICT_POLICY`: the booking stays, Outlook wins, or a person is asked",
}


def decision_table() -> str:
    """The guards in their order, then the verdicts, as rows of one table."""
    rows = [tuple((guard.__doc__ or "").split(" | ")) for guard in GUARDS]
    lines = ["| # | if | then |", "|---|---|---|"]
    lines += [f"| {number} | {condition} | {action} |" for number, (condition, action) in enumerate(rows, 1)]
    lines += ["", "No guard has an answer: the verdict decides.", ""]
    lines += ["| the event | the booking: same | the booking: moved | the booking: ended |", "|---|---|---|---|"]
    for event in Side:
        cells = " | ".join(VERDICTS[event, booking].value for booking in Side)
        lines.append(f"| {event.value} | {cells} |")
    lines += ["", *(f"- **{verdict.value}**: {MEANS[verdict]}." for verdict in Verdict)]
    return "\n".join(lines)


def states() -> str:
    """The states of a pair and what leads from one to the other, as a Mermaid diagram."""
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> InStep: first contact, the booking follows"]
    names = {
        Verdict.IN_STEP: "InStep",
        Verdict.BOOKING_FOLLOWS: "BookingFollows",
        Verdict.EVENT_FOLLOWS: "WaitsForOutlook",
        Verdict.CONFLICT: "Conflict",
    }
    for event, booking in product(Side, Side):
        verdict = VERDICTS[event, booking]
        if verdict is not Verdict.IN_STEP:
            lines.append(f"    InStep --> {names[verdict]}: event {event.value}, booking {booking.value}")
    lines += [
        "    BookingFollows --> InStep: moved, linked",
        "    BookingFollows --> Closed: canceled",
        "    BookingFollows --> Held: weak evidence, or one too many",
        "    WaitsForOutlook --> InStep: the event followed",
        "    Conflict --> WaitsForOutlook: the booking stays",
        "    Conflict --> BookingFollows: Outlook wins, or a person releases",
        "    Conflict --> Held: a person is asked",
        "    Held --> BookingFollows: released",
        "    Held --> InStep: discarded, or settled by itself",
        "    Closed --> [*]: forgotten 30 days after its end",
        "```",
    ]
    return "\n".join(lines)


def holds_table() -> str:
    """Every reason for which a pair is held or waits."""
    lines = ["| reason | waits for | if released |", "|---|---|---|"]
    for words in HOLDS.values():
        who = "a person" if words.acts is Acts.PERSON else "Outlook"
        lines.append(f"| {words.reason.format('…')} | {who} | {words.release} |")
    return "\n".join(lines)


PARTS = {"decision table": decision_table, "states": states, "holds": holds_table}


def documented(page: str) -> str:
    """*page* with each part between its marks as the code has it now."""
    for name, part in PARTS.items():
        between = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        page = between.sub(lambda marks, part=part: f"{marks[1]}\n{part()}\n\n{marks[2]}", page)  # type: ignore[misc]
    return page


if __name__ == "__main__":
    PAGE.write_text(documented(PAGE.read_text("utf-8")), "utf-8")
