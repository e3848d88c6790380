"""The shop as a WSGI application:  gunicorn --chdir demo --workers 2 --threads 8 wsgi:app"""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

import shop

from sessile.web.wsgi import SessionMiddleware


def pages(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    length = int(environ.get("CONTENT_LENGTH") or 0)
    form = environ["wsgi.input"].read(length).decode(errors="replace") if 0 < length <= 4096 else ""
    request = shop.Request(
        method=environ["REQUEST_METHOD"],
        path=environ["PATH_INFO"],
        form=dict(parse_qsl(form)),
        user_agent=environ.get("HTTP_USER_AGENT", ""),
        session=environ["sessile.session"],
    )
    response = shop.respond(request)
    body = response.body.encode() if isinstance(response.body, str) else response.body
    headers = [*response.headers.items(), ("Content-Length", str(len(body)))]
    start_response(f"{response.status} {HTTPStatus(response.status).phrase}", headers)
    return [] if request.method == "HEAD" else [body]


app = SessionMiddleware(pages, shop.store, **shop.OPTIONS)
