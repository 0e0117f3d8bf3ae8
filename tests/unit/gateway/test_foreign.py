"""No word from outside carries a key, in whatever form and wherever it stands; and no honest answer is lost for that."""

import base64
import json
import logging
import sys
import time
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillery.gateway.credentials import CredentialEntry, Credentials
from distillery.gateway.foreign import MOST, secret
from distillery.logs import JsonFormatter

KEY = "sk-live-4fQ9xTz81LmNw0RbVh7Yc2Kd+/="
LETTERS = st.text(st.sampled_from("abcdefgHIJKLMN0123456789-_+/=~"), min_size=8, max_size=60)


def percent(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode())


FORMS = {
    "itself": KEY,
    "a piece": KEY[11:19],
    "the end": KEY[-12:],
    "base64": base64.b64encode(KEY.encode()).decode(),
    "base64 of the header": base64.b64encode(f"Bearer {KEY}".encode()).decode(),
    "base64 after a letter": base64.b64encode(f"x{KEY}".encode()).decode(),
    "base64 for urls": base64.urlsafe_b64encode(f"xx{KEY}".encode()).decode(),
    "url": quote(KEY, safe=""),
    "per cent": percent(KEY),
    "per cent, capitals": percent(KEY).upper(),
    "a piece per cent": percent(KEY[12:22]),
}


def pieces(form: str) -> list[str]:
    return [form[at : at + 8] for at in range(len(form) - 7)]


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("around", ["{}", "invalid key {} given", "a{}b", '{{"error": "Bearer {}"}}', "x\n{}\r\n"])
def test_no_piece_of_a_key_is_shown_in_any_form(form: str, around: str) -> None:
    told = secret(KEY).shown(around.format(form))
    assert not any(piece in told for piece in pieces(KEY))
    assert not any(piece.lower() in told.lower() for piece in pieces(form) if not piece.strip("=").isalpha())


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_an_answer_that_repeats_the_key_is_known_by_it(form: str) -> None:
    assert secret(KEY).repeated_in(f'{{"content":"it is {form}, I think"}}'.encode())


@pytest.mark.parametrize(
    ("key", "answer"),
    [
        (None, "sk-live-4fQ9xTz81LmNw0RbVh7Yc2Kd"),
        ("EMPTY", "the list is EMPTY"),
        ("", "anything"),
        ("password", "choose a long password"),
        ("sk-proj-4fQ9xTz81LmNw0RbVh7Yc2Kd", "keys begin with sk-proj-"),
        ("sk-proj-4fQ9xTz81LmT3BlbkFJNw0RbVh7Yc2Kd", "look for T3BlbkFJ"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.4fQ9xTz81LmNw0RbVh7Yc2Kd", "a JWT begins with eyJhbGciOiJIUzI1NiJ9"),
        ("my-distillation-key-of-the-team", "distillation is taught by a teacher"),
        ("token-12345678", "12345678"),
        (KEY, "%20%2D%2B%20%2D%2B%20%2D"),
    ],
)
def test_an_honest_answer_is_not_taken_for_the_key(key: str | None, answer: str) -> None:
    assert not secret(key).repeated_in(answer.encode())


@pytest.mark.parametrize("key", ["sk-secret", "sk-bench", "token-abc123", "aB3defgh"])
def test_a_short_key_counts_as_a_whole(key: str) -> None:
    assert secret(key).repeated_in(f"it is {key}".encode())
    assert secret(key).repeated_in(base64.b64encode(f"Bearer {key}{key}".encode()))


@given(LETTERS, st.text(max_size=40), st.text(max_size=40), st.integers(0, 50))
def test_no_piece_of_any_key_is_shown(key: str, before: str, after: str, at: int) -> None:
    piece = key[at : at + 8] if len(key[at : at + 8]) == 8 else key
    told = secret(key).shown(f"{before}{piece}{after}")
    assert piece not in told
    assert len(told) <= MOST


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("plain words", "plain words"),
        ("two\nlines\r\n\x00\x1b[31mred", "two lines [31mred"),
        ("turned \u202eround", "turned  round"),
        ("half \ud83d of it", "half   of it"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer [hidden]"),
        ("api_key=hunter2hunter2 is wrong", "api_key=[hidden] is wrong"),
        ("Incorrect API key provided: sk-ab****wxyz.", "Incorrect API key provided: [hidden]"),
        ("w" * 500, "w" * (MOST - 1) + "…"),
        (b"bytes", "b'bytes'"),
    ],
)
def test_how_foreign_words_are_shown(words: object, told: str) -> None:
    assert secret(None).shown(words) == told


@pytest.mark.parametrize("key", ['a"B1c"D2e"F3g"H4i"', "a\\B1c\\D2e\\F3g\\H4i", "a/B1c/D2e/F3g/H4i/J5k", "(a+)+$[B-]{1,}.*^|c?D"])
def test_a_key_that_json_writes_otherwise_is_known_by_it(key: str) -> None:
    written = json.dumps({"message": f"no such key: {key}"})
    for text in (written, written.replace("/", "\\/")):
        assert "[hidden]" in secret(key).shown(text)
        assert key[2:6] not in secret(key).shown(text)
        assert secret(key).repeated_in(text.encode())


def test_a_key_shorter_than_a_piece_is_hidden_whole() -> None:
    assert secret("abcde").shown("it is ABCDE") == "it is [hidden]"


def test_an_answer_of_megabytes_is_looked_through_at_once() -> None:
    text, began = b'{"token": "word", "logprob": -0.25}, ' * 100_000, time.process_time()
    assert not secret(KEY * 4).repeated_in(text)
    assert time.process_time() - began < 2


def test_a_traceback_in_the_log_tells_no_key(tmp_path: Path) -> None:
    entry = {"name": "openai", "baseURLs": ["https://api.example.com/v1"], "namespaces": ["nlp"], "keyFile": "key"}
    (tmp_path / "key").write_text(KEY)
    credentials = Credentials([CredentialEntry.model_validate(entry)], (), lambda: 0.0, tmp_path)
    credentials._by_name["openai"].key()
    try:
        raise ValueError(f"cannot write header {FORMS['base64']} of Bearer {KEY}")
    except ValueError:
        failed = logging.LogRecord("aiohttp", logging.ERROR, __file__, 1, "lost %s", (KEY,), sys.exc_info())
    failed.url = f"https://x/?key={FORMS['url']}"
    line = json.loads(JsonFormatter(credentials.hidden).format(failed))
    assert "ValueError: cannot write header" in line["error"]
    assert line["message"] == "lost [hidden]"
    assert not any(piece in str(line) for form in ("itself", "base64", "url") for piece in pieces(FORMS[form]))
