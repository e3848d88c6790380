"""The pages of the shop, as text. Whatever comes from outside is escaped here and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import datetime
from html import escape

from sessile import SessionInfo, Stats


def page(title: str, content: str, owner: str | None) -> str:
    """A whole page; the countdown is on those of somebody who is logged in."""
    if owner is None:
        who = '<a href="/login">Log in</a>'
    else:
        who = f"""<a href="/devices">{escape(owner)}</a>
        <form method="post" action="/logout"><button>Log out</button></form>"""
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
<nav aria-label="Main">
<a href="/">Shop</a> <a href="/cart">Cart</a> <a href="/figures">Figures</a> {who}
</nav>
</header>
<main>
<h1>{escape(title)}</h1>
{content}
</main>
{"" if owner is None else _COUNTDOWN}
<footer><p>Answered by worker {os.getpid()}.</p></footer>
</body>
</html>
"""


_COUNTDOWN = """<p id="countdown" hidden>You will be logged out in <span id="seconds"></span>
if you do nothing.</p>
<dialog id="still-there" aria-labelledby="question">
<p id="question">Are you still there? You will be logged out in <span id="last-seconds"></span>.</p>
<button id="stay" autofocus>Stay logged in</button>
</dialog>"""


def goods(names: Iterable[str]) -> str:
    buttons = "".join(
        f'<li><button name="good" value="{escape(name)}">Put {escape(name)} into the cart</button></li>'
        for name in names
    )
    return f'<form method="post" action="/cart"><ul class="goods">{buttons}</ul></form>'


def cart(content: Mapping[str, int]) -> str:
    if not content:
        return "<p>Your cart is empty.</p>"
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{count}</td></tr>' for name, count in content.items()
    )
    return f"""<table>
<caption>Open the shop in two tabs and put something in from both: nothing is lost.</caption>
<thead><tr><th scope="col">Good</th><th scope="col">Number</th></tr></thead>
<tbody>{rows}</tbody>
</table>
<form method="post" action="/cart/empty"><button>Empty the cart</button></form>"""


def log_in_form(problem: str = "") -> str:
    alert = f'<p role="alert">{escape(problem)}</p>' if problem else ""
    return f"""{alert}
<form method="post" action="/login">
<p><label>Name <input name="name" required maxlength="40" autocomplete="username"></label></p>
<p><label>Password <input name="password" type="password" required autocomplete="off"></label></p>
<p>Any name will do; the password is <kbd>sesame</kbd>.</p>
<button>Log in</button>
</form>"""


def devices(sessions: Iterable[SessionInfo], current: str | None) -> str:
    rows = "".join(_device(info, info.handle == current) for info in sessions)
    return f"""<table>
<caption>Where you are logged in, the one used last first</caption>
<thead><tr><th scope="col">Device</th><th scope="col">Since</th><th scope="col">Last used</th>
<th scope="col">Until</th><th scope="col">Log out</th></tr></thead>
<tbody>{rows}</tbody>
</table>
<form method="post" action="/devices/logout-others"><button>Log out everywhere else</button></form>"""


def _device(info: SessionInfo, is_current: bool) -> str:
    described = info.device or {}
    name = escape(f"{described.get('browser', 'unknown')} on {described.get('system', 'unknown')}")
    if is_current:
        action = "this device"
    else:
        action = f"""<form method="post" action="/devices/logout">
<button name="handle" value="{escape(info.handle)}" aria-label="Log out {name}">Log out</button></form>"""
    times = "".join(f"<td>{_time(time)}</td>" for time in (info.created, info.last_used, info.expires))
    return f'<tr><th scope="row">{name}</th>{times}<td>{action}</td></tr>'


def _time(time: datetime) -> str:
    return f'<time datetime="{time.isoformat()}">{time:%H:%M:%S}</time> UTC'


def figures(stats: Stats) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td data-figure="{escape(name)}">{value:,}</td></tr>'
        for name, value in figures_of(stats).items()
    )
    return f"""<table>
<caption>Of all workers together, whichever of them answers</caption>
<thead><tr><th scope="col">Figure</th><th scope="col">Value</th></tr></thead>
<tbody>{rows}</tbody>
</table>
<p><label><input type="checkbox" id="follow" checked> Follow the figures</label></p>"""


def figures_of(stats: Stats) -> dict[str, int]:
    return {name.replace("_", " "): value for name, value in asdict(stats).items()}
