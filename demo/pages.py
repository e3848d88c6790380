"""The pages of the shop, as text. Whatever comes from outside is escaped here and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import datetime
from html import escape

from sessile import SessionInfo, Stats

PLACES = {"/": "Shop", "/cart": "Cart", "/figures": "Figures"}


def page(title: str, content: str, path: str, owner: str | None) -> str:
    """A whole page; the countdown is on those of somebody who is logged in."""
    if owner is None:
        places, who = PLACES | {"/login": "Log in"}, ""
    else:
        places = PLACES | {"/devices": "Devices"}
        who = f"""<form method="post" action="/logout">Logged in as <b>{escape(owner)}</b>
        <button>Log out</button></form>"""
    here = {path: ' aria-current="page"'}
    links = " ".join(f'<a href="{place}"{here.get(place, "")}>{name}</a>' for place, name in places.items())
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)} - sessile demo</title>
<link rel="stylesheet" href="/style.css">
<link rel="icon" href="data:,">
<script src="/shop.js" defer></script>
</head>
<body>
<header>
<nav aria-label="Main">{links}</nav>
{who}
</header>
<main>
<h1>{escape(title)}</h1>
{content}
</main>
<footer>
{"" if owner is None else _COUNTDOWN}
<p>Answered by worker {os.getpid()}.</p>
</footer>
</body>
</html>
"""


_COUNTDOWN = """<p id="countdown" role="timer" hidden>You will be logged out in <b id="seconds"></b> if you do nothing.</p>
<dialog id="still-there" aria-labelledby="question">
<h2 id="question">Are you still there?</h2>
<p>You will be logged out in <b id="last-seconds"></b>.</p>
<form method="post" action="/logout">
<button type="button" id="stay" autofocus>Stay logged in</button>
<button class="quiet">Log out now</button>
</form>
</dialog>"""


def goods(names: Iterable[str]) -> str:
    buttons = "".join(
        f'<li><button name="good" value="{escape(name)}">Put {escape(name)} into the cart</button></li>'
        for name in names
    )
    return f"""<p>Open this page in two tabs and press in both: nothing is lost. Log in: the cart comes along.</p>
<form method="post" action="/cart"><ul class="goods">{buttons}</ul></form>"""


def cart(content: Mapping[str, int]) -> str:
    if not content:
        return '<p>It is empty. <a href="/">Look around in the shop</a>.</p>'
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td class="number">{count}</td></tr>'
        for name, count in content.items()
    )
    return f"""<table>
<caption>What you put in, from whichever tab</caption>
<thead><tr><th scope="col">Good</th><th scope="col" class="number">Number</th></tr></thead>
<tbody>{rows}</tbody>
</table>
<form method="post" action="/cart/empty"><button class="quiet">Empty the cart</button></form>"""


def log_in_form(name: str = "", problem: str = "") -> str:
    alert = f'<p role="alert" id="problem">{escape(problem)}</p>' if problem else ""
    described = 'aria-invalid="true" aria-describedby="problem" autofocus' if problem else 'aria-describedby="hint"'
    return f"""{alert}
<form method="post" action="/login" class="fields">
<label>Name <input name="name" value="{escape(name)}" required maxlength="40" autocomplete="username"></label>
<label>Password <input name="password" type="password" required autocomplete="off" {described}></label>
<p id="hint">This is a demo: any name will do, and the password is <kbd>sesame</kbd>.</p>
<button>Log in</button>
</form>"""


def logged_out() -> str:
    return """<p>You have logged out, here or from another device, or nothing was done for too long.</p>
<p><a href="/login">Log in again</a></p>"""


def message(text: str) -> str:
    return f'<p>{escape(text)}</p><p><a href="/">Back to the shop</a></p>'


def devices(sessions: Iterable[SessionInfo], current: str | None) -> str:
    rows = "".join(_device(info, info.handle == current) for info in sessions)
    return f"""<p id="devices">Where you are logged in, the one used last first; times are UTC. Log in with another
browser to see more.</p>
<div class="wide" role="region" aria-labelledby="devices" tabindex="0"><table aria-labelledby="devices">
<thead><tr><th scope="col">Device</th><th scope="col">Log out</th><th scope="col">Since</th>
<th scope="col">Last used</th><th scope="col">Ends</th></tr></thead>
<tbody>{rows}</tbody>
</table></div>
<form method="post" action="/devices/logout-others"><button>Log out everywhere else</button></form>"""


def _device(info: SessionInfo, is_current: bool) -> str:
    described = info.device or {}
    name = escape(f"{described.get('browser', 'unknown')} on {described.get('system', 'unknown')}")
    if is_current:
        action = "this device"
    else:
        action = f"""<form method="post" action="/devices/logout">
<button name="handle" value="{escape(info.handle)}" class="quiet" aria-label="Log out {name}">Log out</button></form>"""
    times = "".join(f"<td>{_time(time)}</td>" for time in (info.created, info.last_used, info.expires))
    return f'<tr><th scope="row">{name}</th><td>{action}</td>{times}</tr>'


def _time(time: datetime) -> str:
    return f'<time datetime="{time.isoformat()}">{time:%H:%M:%S}</time>'


def figures(stats: Stats) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td class="number" data-figure="{escape(name)}">{value:,}</td></tr>'
        for name, value in figures_of(stats).items()
    )
    return f"""<p><label><input type="checkbox" id="follow" checked> Ask anew each second</label></p>
<table>
<caption>Of all workers together, whichever of them answers; the two of memory in bytes</caption>
<thead><tr><th scope="col">Figure</th><th scope="col" class="number">Value</th></tr></thead>
<tbody>{rows}</tbody>
</table>"""


def figures_of(stats: Stats) -> dict[str, int]:
    return {name.replace("_", " "): value for name, value in asdict(stats).items()}
