"""Views that do one thing each with the session; what a test wants done in the middle of one is in `during`."""

import os
from collections.abc import Callable, Iterator

from django.contrib import auth, messages
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.views.decorators.csrf import csrf_exempt

during: list[Callable[[], object]] = []


def _answer(request: HttpRequest, **more: object) -> JsonResponse:
    status = int(request.GET.get("status", 200))
    return JsonResponse({"pid": os.getpid(), **more}, status=status)


@csrf_exempt
def login(request: HttpRequest) -> HttpResponse:
    user = auth.authenticate(request, username=request.POST["username"], password=request.POST["password"])
    if user is None:
        return HttpResponse(status=403)
    auth.login(request, user)
    messages.success(request, "welcome")
    return _answer(request, key=request.session.session_key)


def me(request: HttpRequest) -> HttpResponse:
    said = [str(each) for each in messages.get_messages(request)]
    return _answer(request, user=request.user.get_username(), messages=said)


async def ame(request: HttpRequest) -> HttpResponse:
    return _answer(request, user=(await request.auser()).get_username())


def read(request: HttpRequest) -> HttpResponse:
    return _answer(request, fields=dict(request.session.items()))


async def aread(request: HttpRequest) -> HttpResponse:
    return _answer(request, fields=dict(await request.session.aitems()))


@csrf_exempt
def write(request: HttpRequest) -> HttpResponse:
    for name, value in request.GET.items():
        request.session[name] = value
    return _answer(request)


@csrf_exempt
async def awrite(request: HttpRequest) -> HttpResponse:
    for name, value in request.GET.items():
        await request.session.aset(name, value)
    return _answer(request)


def append(request: HttpRequest) -> HttpResponse:
    """Changes a value in place, and says so to nobody."""
    request.session.setdefault("list", [])
    request.session.modified = False
    request.session["list"].append(request.GET["value"])
    return _answer(request)


def late(request: HttpRequest) -> HttpResponse:
    """Reads the session, lets others do what they want, then writes to it."""
    before = len(request.session.keys())
    for each in during:
        each()
    request.session["late"] = before
    return _answer(request)


def stream(request: HttpRequest) -> HttpResponse:
    def parts() -> Iterator[str]:
        yield "first"
        request.session["streamed"] = True
        yield "second"

    request.session["begun"] = True
    return StreamingHttpResponse(parts())


def static_page(request: HttpRequest) -> HttpResponse:
    return HttpResponse("the same for everybody")
