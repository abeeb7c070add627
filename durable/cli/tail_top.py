"""The commands that watch a running program: `tail` and `top`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import click
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from durable import operate
from durable.operate.json_lines import json_line

from .peers_option import of_peers, peers_in
from .plain_text import printable, say
from .printing import as_json, console, duration, print_now, size

# Printed at the beginning of each line of `tail`, or of use to programs only.
_SHOWN_APART = {"event", "time", "class_name", "name", "object_id", "number", "caller"}


@click.command()
@click.argument("folder")
@click.option("--class", "cls", help="Only objects of this class.")
@click.option("--name", help="Only objects of this name.")
@click.option("--event", "events", multiple=True, help="Only these events, such as DeliveryEnded.")
@click.option("--count", type=click.IntRange(min=1), help="Stop after this many events.")
@of_peers
@as_json
def tail(
    folder: str,
    cls: str | None,
    name: str | None,
    events: tuple[str, ...],
    count: int | None,
    config: str | None,
    environment: str | None,
    is_json: bool,
) -> None:
    """Follow the events of a running program.

    Prints the events of the program that has the store in FOLDER open, until Ctrl-C.
    """
    stream = operate.events(folder, peers=peers_in(config, environment))
    say(f"watching {folder}; Ctrl-C ends it", err=True)
    for event in islice(_chosen(stream, cls, name, events), count):
        if is_json:
            print_now(json_line(event))
        else:
            say(_line(event))


def _chosen(
    stream: Iterator[dict[str, Any]], cls: str | None, name: str | None, events: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    for event in stream:
        if "error" in event and "event" not in event:
            raise operate.NotRunning(str(event["error"]))
        if event["event"] == "Watching":
            continue
        is_wanted = (
            (cls is None or event.get("class_name") == cls)
            and (name is None or event.get("name") == name)
            and (not events or event["event"] in events)
        )
        if is_wanted:
            yield event


def _line(event: dict[str, Any]) -> str:
    parts = []
    if "time" in event:
        parts.append(f"{datetime.fromtimestamp(event['time'], UTC):%H:%M:%S.%f}")
    parts.append(event["event"])
    if "object_id" in event:
        name = event["name"]
        who = event["object_id"] if name is None else repr(name)
        parts.append(f"{event['class_name']}({who})")
    for key, value in event.items():
        if key in _SHOWN_APART or value is None or value == 0:
            continue
        text = duration(value) if key.endswith("_s") else " ".join(str(value).split())
        parts.append(f"{key.removesuffix('_s')}={text}")
    return " ".join(parts)


@click.command()
@click.argument("folder")
@click.option("--rows", type=click.IntRange(1, 50), default=20, show_default=True)
@click.option("--count", type=click.IntRange(min=1), help="Stop after this many seconds.")
@of_peers
@as_json
def top(
    folder: str,
    rows: int,
    count: int | None,
    config: str | None,
    environment: str | None,
    is_json: bool,
) -> None:
    """Show the busiest objects of a running program.

    Updates every second, for the program that has the store in FOLDER open.
    """
    # The first report covers no time at all.
    found = operate.tops(folder, peers=peers_in(config, environment))
    reports = islice(found, 1, None if count is None else count + 1)
    if is_json:
        for report in reports:
            print_now(json_line(report))
        return
    screen = console()
    if not screen.is_terminal:
        for report in reports:
            screen.print(_screen(report, rows))
        return
    with Live(console=screen, screen=True, auto_refresh=False) as live:
        for report in reports:
            live.update(_screen(report, rows), refresh=True)


def _screen(report: dict[str, Any], rows: int) -> Group:
    if report.get("stuck"):
        return Group(Text(f"process {report['pid']:d}: its event loop is stuck", style="bold red"))
    return Group(Text(_summary(report)), Text(""), _busiest(report, rows))


def _summary(report: dict[str, Any]) -> str:
    now, period_s = report["statistics"], report["period_s"] or 1.0
    fsync = report["fsync_s"]
    pids = report.get("pids", [report["pid"]])
    who = f"process {pids[0]:d}" if len(pids) == 1 else f"processes {', '.join(map(str, pids))}"
    return (
        f"{who}: {report['deliveries'] / period_s:,.0f} deliveries/s, "
        f"{now['open_deliveries']:,} open, {now['queued_deliveries']:,} queued, "
        f"{now['live_objects']:,} live objects, {now['websockets']:,} websockets, "
        f"cache {size(now['cache_bytes'])}\n"
        f"{report['commits'] / period_s:,.0f} commits/s, {now['batches_waiting']:,} batches wait, "
        f"fsync p50 {duration(fsync['50'])}, p99 {duration(fsync['99'])}, "
        f"max {duration(fsync['100'])}; file {size(now['store']['file_size'])}"
    )


def _busiest(report: dict[str, Any], rows: int) -> Table:
    period_s = report["period_s"] or 1.0
    table = Table(box=None, pad_edge=False)
    table.add_column("object", overflow="fold")
    for column in ("calls/s", "errors", "queue", "queued", "gate wait", "runs", "commit wait"):
        table.add_column(column, justify="right")
    for each in report["objects"][:rows]:
        count = each["deliveries"]
        name = each["object_id"] if each["name"] is None else repr(each["name"])
        table.add_row(
            Text(printable(f"{each['class_name']}({name})")),
            f"{count / period_s:,.0f}",
            f"{each['errors']:,}",
            f"{each['queue']:,}",
            *(
                duration(each[key] / count if count else None)
                for key in ("queued_s", "gate_wait_s", "duration_s", "commit_wait_s")
            ),
        )
    return table
