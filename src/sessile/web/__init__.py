"""The web layer: how a session travels over HTTP.

Importing this imports no framework: each adapter is a module of its own (`sessile.web.wsgi`, …).
"""

from sessile.web.cookies import Cookie, Header

__all__ = ["Cookie", "Header"]
