"""The Flask site for a server that speaks ASGI, by the adapter that uvicorn recommends."""

from a2wsgi import WSGIMiddleware
from flask_site import flask_app

app = WSGIMiddleware(flask_app)
