"""Customers of the shop: real HTTP clients that remember what they were told and look whether it holds.

Each visit of a customer: look around, put something into the cart, log in, use two tabs at once, have the
session renewed now and then, and log out; every fourth one stays logged in, and looks again at the end.

Lost is what the shop acknowledged and does not know any more: a log-in, something in a cart. So is a log-out
that did not last, and an id that was replaced and still opens a session. A request whose connection is cut
off is repeated; whether it had been done nobody knows, so nothing is expected of it.
"""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

GOODS = ("apple", "bread", "cheese", "date", "egg", "fig", "grape", "honey")
PATIENCE = 120.0  # seconds without any answer, after which a request has failed


@dataclass
class Ledger:
    """What all customers met, added up."""

    answers: Counter[int] = field(default_factory=Counter)  # by worker
    log_ins: int = 0
    log_outs: int = 0
    renewals: int = 0
    cut_off: int = 0  # requests without an answer, repeated
    cut_off_log_ins: int = 0  # of them log-ins that had been done: the customer starts over
    lost: list[str] = field(default_factory=list)
    staying: list[Customer] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, name: str) -> None:
        with self.lock:
            setattr(self, name, getattr(self, name) + 1)

    def lose(self, what: str) -> None:
        with self.lock:
            self.lost.append(what)


@dataclass
class Answer:
    status: int
    body: bytes
    set_cookie: str | None


class Tab:
    """One connection of a customer's browser. The tabs of a browser share its cookie."""

    def __init__(self, customer: Customer) -> None:
        self.customer = customer
        self.connection = http.client.HTTPConnection("127.0.0.1", customer.port, timeout=PATIENCE)

    def get(self, path: str) -> Any:
        return json.loads(self.ask("GET", path).body)

    def post(self, path: str, **form: str) -> Answer:
        return self.ask("POST", path, form)

    def ask(
        self, method: str, path: str, form: dict[str, str] | None = None, cookie: str | None = None
    ) -> Answer:
        """Ask until there is an answer. With `cookie`: with that one, and the answer's is ignored."""
        customer, ledger = self.customer, self.customer.ledger
        end = time.monotonic() + PATIENCE
        while True:
            sent = cookie or customer.cookie
            try:
                answer = self._ask_once(method, path, form, sent)
                break
            except (OSError, http.client.HTTPException):
                self.connection.close()
                ledger.count("cut_off")
                customer.was_cut_off = True
                if time.monotonic() > end:
                    raise
        if answer.status >= 400:
            ledger.lose(f"{method} {path} was answered with {answer.status}")
        if cookie is None and answer.set_cookie is not None:
            if path not in ("/cart", "/login", "/logout"):
                ledger.count("renewals")
            customer.cookie = None if "Max-Age=0" in answer.set_cookie else answer.set_cookie.split(";")[0]
        return answer

    def _ask_once(self, method: str, path: str, form: dict[str, str] | None, cookie: str | None) -> Answer:
        headers = {"User-Agent": "Mozilla/5.0 (Linux) demo"}
        if cookie:
            headers["Cookie"] = cookie
        body = None
        if form is not None:
            body = urlencode(form)
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        self.connection.request(method, path, body, headers)
        response = self.connection.getresponse()
        answer = Answer(response.status, response.read(), response.headers.get("Set-Cookie"))
        with self.customer.ledger.lock:
            self.customer.ledger.answers[int(response.headers["X-Worker"])] += 1
        return answer


class Customer:
    """One visit, with one browser."""

    numbers = itertools.count(1)

    def __init__(self, port: int, ledger: Ledger) -> None:
        self.port = port
        self.ledger = ledger
        self.number = next(self.numbers)
        self.name = f"customer {self.number}"
        self.cookie: str | None = None
        self.cart: Counter[str] = Counter()  # what was acknowledged
        self.was_cut_off = False

    def visit(self) -> None:
        tabs = [Tab(self), Tab(self)]
        try:
            self._come_in(tabs[0])
            self._log_in(tabs[0])
            self._use_both(tabs)
            self.look(tabs[0], "after using two tabs")
            if self.number % 4:
                self._log_out(tabs[0])
            else:
                with self.ledger.lock:
                    self.ledger.staying.append(self)
        finally:
            for tab in tabs:
                tab.connection.close()

    def _come_in(self, tab: Tab) -> None:
        tab.ask("GET", "/")
        if self.cookie is not None:
            self.ledger.lose("a cookie was set for a visitor who only looked")
        self._put(tab, GOODS[0])

    def _put(self, tab: Tab, good: str) -> None:
        tab.post("/cart", good=good)
        with self.ledger.lock:
            self.cart[good] += 1

    def _log_in(self, tab: Tab) -> None:
        before = self.cookie
        self.was_cut_off = False
        tab.post("/login", name=self.name, password="sesame")
        if self.was_cut_off and tab.get("/me")["cart"] == {}:
            # The log-in had been done, the answer with the new id was lost, and the old id is dead at once.
            self.ledger.count("cut_off_log_ins")
            self.cart.clear()
        self.ledger.count("log_ins")
        self._expect_nobody(tab, before, "the id from before the log-in")

    def _use_both(self, tabs: list[Tab]) -> None:
        def use(tab: Tab, goods: tuple[str, ...]) -> None:
            for good in goods:
                self._put(tab, good)
                tab.get("/me")
                tab.ask("GET", "/cart")

        other = threading.Thread(target=_reporting(self.ledger, use), args=(tabs[1], GOODS[4:]))
        other.start()
        use(tabs[0], GOODS[:4])
        other.join()

    def look(self, tab: Tab, when: str) -> None:
        """Is everything there that was acknowledged?"""
        found = tab.get("/me")
        if found["owner"] != self.name:
            self.ledger.lose(f"the log-in of {self.name} {when}")
        missing = self.cart - Counter(found["cart"])
        if missing:
            self.ledger.lose(f"{dict(missing)} in the cart of {self.name} {when}")

    def _log_out(self, tab: Tab) -> None:
        before = self.cookie
        tab.post("/logout")
        self.ledger.count("log_outs")
        self._expect_nobody(tab, before, "the id from before the log-out")

    def _expect_nobody(self, tab: Tab, cookie: str | None, what: str) -> None:
        found = json.loads(tab.ask("GET", "/me", cookie=cookie).body)
        if found != {"owner": None, "cart": {}}:
            self.ledger.lose(f"{what} of {self.name} still opens a session")


def _reporting(ledger: Ledger, function: Callable[..., None]) -> Callable[..., None]:
    """A thread's exception is a loss, not a line in a log."""

    def run(*arguments: Any) -> None:
        try:
            function(*arguments)
        except Exception as error:
            ledger.lose(f"a customer met {type(error).__name__}: {error}")

    return run


def run(port: int, customers: int, seconds: float, progress: Callable[[float], None]) -> Ledger:
    """Let so many customers visit the shop at once, one visit after the other, for this time.

    Args:
        progress: called with the share of the time that has passed, a few times a second.
    """
    ledger = Ledger()
    begun = time.monotonic()

    def come_and_go() -> None:
        while time.monotonic() < begun + seconds:
            Customer(port, ledger).visit()

    threads = [threading.Thread(target=_reporting(ledger, come_and_go)) for _ in range(customers)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        progress(min(1.0, (time.monotonic() - begun) / seconds))
        time.sleep(0.1)
    return ledger


def look_again(ledger: Ledger) -> None:
    """At the end: is everybody there who did not log out?"""
    for customer in ledger.staying:
        tab = Tab(customer)
        customer.look(tab, "at the end")
        tab.connection.close()
