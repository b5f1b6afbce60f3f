"""The operator's file of endpoints: what it may say, and that a refusal never repeats what it says."""

import json
from pathlib import Path
from typing import Any

import pytest

from shared.endpoints import EndpointsError, find_endpoint, read_endpoints


def written(folder: Path, content: Any) -> Path:
    file = folder / "endpoints.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def test_without_a_file_there_are_no_endpoints() -> None:
    assert read_endpoints(None) == {}


def test_an_entry_needs_a_base_url_only(tmp_path: Path) -> None:
    entry = read_endpoints(written(tmp_path, {"lab": {"base_url": "https://llm.example.org/v1/"}}))["lab"]
    assert entry.url == "https://llm.example.org/v1"
    assert (entry.protocol, entry.secret, entry.prefill) == ("openai", None, "no")
    assert (entry.max_in_flight, entry.requests_per_minute, entry.timeout_s) == (8, None, 120.0)


def test_entries_are_listed_by_name(tmp_path: Path) -> None:
    file = written(tmp_path, {name: {"base_url": "http://a"} for name in ("lab", "cloud")})
    assert list(read_endpoints(file)) == ["cloud", "lab"]


def test_an_unknown_name_is_refused_with_those_there_are(tmp_path: Path) -> None:
    entries = read_endpoints(written(tmp_path, {"lab": {"base_url": "http://a"}, "cloud": {"base_url": "http://b"}}))
    with pytest.raises(EndpointsError, match=r"^there is no endpoint attic; TENFOLD_ENDPOINTS has: cloud, lab$"):
        find_endpoint(entries, "attic")
    with pytest.raises(EndpointsError, match=r"TENFOLD_ENDPOINTS has: none$"):
        find_endpoint({}, "attic")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        pytest.param("{", "not JSON", id="no JSON"),
        pytest.param([], "valid dictionary", id="no object"),
        pytest.param({"lab": {}}, r"lab\.base_url: Field required", id="no base_url"),
        pytest.param({"lab": {"base_url": "ftp://a"}}, r"lab\.base_url: URL scheme should be", id="no web address"),
        pytest.param({"lab": {"base_url": "http://a", "key": "k"}}, r"lab\.key: Extra inputs", id="unknown field"),
        pytest.param({"lab": {"base_url": "http://a", "secret": "../k"}}, r"lab\.secret: String", id="path as secret"),
        pytest.param({"lab": {"base_url": "http://a", "max_in_flight": 0}}, r"max_in_flight: .*greater", id="none"),
        pytest.param({"lab": {"base_url": "http://a", "requests_per_minute": 0}}, "greater than 0", id="no rate"),
        pytest.param({"lab": {"base_url": "http://a", "timeout_s": -1}}, "greater than 0", id="no time"),
        pytest.param({"lab": {"base_url": "http://a", "protocol": "smtp"}}, "protocol: Input should be", id="protocol"),
        pytest.param({"my lab": {"base_url": "http://a"}}, "should match pattern", id="name with a space"),
    ],
)
def test_a_file_that_can_not_be_used_says_why(tmp_path: Path, content: Any, why: str) -> None:
    with pytest.raises(EndpointsError, match=rf"^TENFOLD_ENDPOINTS \(endpoints\.json\) can't be read: .*{why}"):
        read_endpoints(written(tmp_path, content))


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(EndpointsError, match="can't be read: No such file"):
        read_endpoints(tmp_path / "nowhere.json")


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param({"base_url": "https://me:sk-123@llm.example.org"}, id="in the address"),
        pytest.param({"base_url": "sk-123"}, id="as the address"),
        pytest.param({"base_url": "http://a", "secret": "sk-123 "}, id="as the secret's name"),
        pytest.param({"base_url": "http://a", "max_in_flight": "sk-123"}, id="anywhere"),
    ],
)
def test_a_key_in_the_file_is_not_repeated(tmp_path: Path, entry: dict[str, Any]) -> None:
    with pytest.raises(EndpointsError) as refused:
        read_endpoints(written(tmp_path, {"lab": entry}))
    assert "sk-123" not in str(refused.value)
    assert refused.value.__cause__ is None
