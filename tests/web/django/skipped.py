"""The tests of Django's own suites that are not run, each with its reason; see suites.py."""

import django

_MIDDLEWARE = "sessions_tests.tests.SessionMiddlewareTests."
_CLIENT = "test_client.tests.ClientTest."
_ENGINE_OF_ITS_OWN = "sets SESSION_ENGINE to another engine, and sessile's middleware refuses to run with that"
_NO_ID = "presents a cookie that is no id, so that there is nothing to take away; only an id that was in use is"

ENGINE: dict[str, str] = {
    _MIDDLEWARE + "test_empty_session_saved": "looks the session up in the database of Django's db engine",
}
"""With either middleware."""

if django.VERSION >= (6,):
    ENGINE["auth_tests.test_middleware.TestLoginRequiredMiddleware.test_protected_view_logged_in_performance"] = (
        "counts two queries, of which one is the db engine's for the session; with sessile there is one"
    )

MIDDLEWARE: dict[str, str] = {
    _MIDDLEWARE + "test_secure_session_cookie": "over plain http there is no Secure; over https it is always there",
    _MIDDLEWARE + "test_no_httponly_session_cookie": "wants a cookie that scripts can read, which sessile never sets",
    _MIDDLEWARE + "test_session_delete_on_end": _NO_ID,
    _MIDDLEWARE + "test_session_delete_on_end_with_custom_domain_and_path": _NO_ID,
    _MIDDLEWARE + "test_session_update_error_redirect": "puts a session of the db engine in the place of ours, and "
    "wants an error page for a late save; sessile drops the save",
    _CLIENT + "test_logout_cookie_sessions": _ENGINE_OF_ITS_OWN,
    _CLIENT + "test_sessions_app_is_not_installed": _ENGINE_OF_ITS_OWN,
    _CLIENT + "test_view_with_login_when_sessions_app_is_not_installed": _ENGINE_OF_ITS_OWN,
    "test_client_regress.tests.SessionEngineTests.test_login": _ENGINE_OF_ITS_OWN,
}
"""With sessile's middleware."""
