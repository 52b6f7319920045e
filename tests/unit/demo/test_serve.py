"""Who is asked for a password, and what is said where Gradio is missing."""

import pytest

import lavis
from lavis.common.errors import ConfigError, MissingExtraError
from lavis.demo import serve


@pytest.mark.parametrize(
    ("value", "auth"), [("ada:secret", ("ada", "secret")), ("ada:se:cret", ("ada", "se:cret")), ("", None)]
)
def test_user_and_password_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, value: str, auth: tuple[str, str] | None
) -> None:
    monkeypatch.setenv("SEVILA_DEMO_AUTH", value)
    assert serve.auth_from_environment() == auth


@pytest.mark.parametrize("value", ["ada", ":secret", "ada:"])
def test_half_a_password_is_refused_without_showing_it(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("SEVILA_DEMO_AUTH", value)
    with pytest.raises(ConfigError, match=r"^SEVILA_DEMO_AUTH must be user:password$"):
        serve.auth_from_environment()


@pytest.mark.parametrize(
    ("host", "auth", "is_open"),
    [("127.0.0.1", None, False), ("0.0.0.0", None, True), ("0.0.0.0", ("ada", "secret"), False)],
)
def test_a_page_is_open_to_others_only_without_loopback_and_password(
    host: str, auth: tuple[str, str] | None, is_open: bool
) -> None:
    assert serve.is_public(host, auth) is is_open


def test_without_gradio_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gradio", None)
    with pytest.raises(MissingExtraError) as raised, serve.serving(None, model_name="none"):
        pytest.fail("it was served")
    assert str(raised.value) == "gradio is not installed; install it with: pip install 'sevila[demo]'"


def test_a_page_that_answers_late_is_served_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx
    from gradio import networking

    # What Gradio finds where its one look takes longer than three seconds, or goes through a proxy.
    monkeypatch.setattr(networking, "url_ok", lambda _url: False)
    model = lavis.load_model("sevila", "tiny", device="cpu")
    with serve.serving(model, model_name="tiny", port=None) as served:
        assert httpx.get(served.url, trust_env=False, timeout=60).status_code == 200
