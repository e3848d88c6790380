"""Sessions for Django (5.2 and newer).

    SESSION_ENGINE = "sessile.web.django"

That is enough. For our cookie, renewal, passive requests, and a log-out that is final without an error page, put
our middleware in the place of Django's; for the `sessions` command, the page in the admin and the checks, add the
application:

    MIDDLEWARE = [..., "sessile.web.django.SessionMiddleware", ...]
    INSTALLED_APPS = [..., "sessile.web.django"]

The table is opened when this is imported; see `tables.py`. `SESSILE = {…}` holds the options; see
`configuration.py`.
"""

from sessile.web.django.engine import SessionStore
from sessile.web.django.middleware import SessionMiddleware
from sessile.web.django.tables import get_store

__all__ = ["SessionMiddleware", "SessionStore", "get_store"]
