"""Writes Grafana's dashboards from the tables in deploy/grafana/, or with --check says whether they are up to date.

    .venv/bin/python tools/dashboards.py [--check]

A table names each panel once: what it shows, why one looks at it, its unit, how wide it is, and its queries with the legend of
each. All dashboards can be filtered by route and model.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[1] / "deploy" / "grafana"
NAMES = ("money", "quality", "traffic")
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
HEIGHT = {"stat": 4}


@dataclass(frozen=True)
class Panel:
    """One panel. `kind`: timeseries, stat or bargauge; `stack` piles the series up."""

    title: str
    why: str
    unit: str
    width: int
    queries: Sequence[dict[str, str]]
    kind: str = "timeseries"
    stack: bool = False
    limits: Sequence[float] = ()
    """Where a value turns yellow, and red."""


def panel_json(number: int, panel: Panel, x: int, y: int, height: int) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    steps += [{"color": c, "value": v} for c, v in zip(("yellow", "red"), panel.limits, strict=False)]
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "thresholds": {"mode": "absolute", "steps": steps},
        "noValue": "none yet",
    }
    options: dict[str, Any] = {
        "legend": {"displayMode": "list", "placement": "bottom"},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    if panel.kind == "timeseries":
        defaults["custom"] = {
            "lineWidth": 1,
            "fillOpacity": 25 if panel.stack else 5,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.stack else "none"},
        }
    else:
        options = {"reduceOptions": {"calcs": ["lastNotNull"]}}
        if panel.kind == "stat":
            options |= {"colorMode": "value", "graphMode": "none"}
        else:
            options |= {"displayMode": "basic", "orientation": "horizontal"}
            defaults |= {"min": 0, "max": 1}
    if panel.unit == "currencyUSD":
        defaults["decimals"] = 4
    targets = [
        {
            "refId": chr(65 + n),
            "datasource": SOURCE,
            "expr": query["expr"],
            "legendFormat": query["legend"],
            "instant": panel.kind != "timeseries",
            "range": panel.kind == "timeseries",
        }
        for n, query in enumerate(panel.queries)
    ]
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.why,
        "datasource": SOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": height},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": targets,
    }


def dashboard(uid: str, title: str, panels: Sequence[Panel]) -> dict[str, Any]:
    placed, x, y, row = [], 0, 0, 0
    for number, panel in enumerate(panels, 1):
        height = HEIGHT.get(panel.kind, 8)
        if x + panel.width > 24:
            x, y, row = 0, y + row, 0
        placed.append(panel_json(number, panel, x, y, height))
        x, row = x + panel.width, max(row, height)
    return {
        "uid": f"tailrace-{uid}",
        "title": title,
        "tags": ["tailrace"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "links": [
            {
                "type": "dashboards",
                "tags": ["tailrace"],
                "title": "Tailrace",
                "asDropdown": False,
                "includeVars": True,
                "keepTime": True,
            }
        ],
        "templating": {
            "list": [
                source_variable(),
                variable("route", "tailrace_requests_total"),
                variable("model", "tailrace_attempts_total"),
            ]
        },
        "panels": placed,
    }


def source_variable() -> dict[str, Any]:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}


def variable(name: str, metric: str) -> dict[str, Any]:
    query = f"label_values({metric}, {name})"
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the dashboards in deploy/grafana/dashboards.")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; status 1 where a file is not up to date"
    )
    check = parser.parse_args().check
    stale = []
    for name in NAMES:
        table = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
        panels = [Panel(**row) for row in table["panels"]]
        path = FOLDER / "dashboards" / f"{name}.json"
        text = json.dumps(dashboard(name, table["title"], panels), indent=2) + "\n"
        if not path.exists() or path.read_text() != text:
            stale.append(path.name)
            if not check:
                path.write_text(text)
    print(f"{'not up to date' if check else 'written'}: {', '.join(stale) or 'nothing'}")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
