"""Which models stay warm."""

import pytest

from shared.llm.model_cache import ModelCache, ModelKey


def key(name: str) -> ModelKey:
    return ModelKey(name, "float32", "cpu")


@pytest.fixture
def cache() -> ModelCache[str]:
    return ModelCache(len)  # a model is a text, its weights are the letters


def test_a_model_is_loaded_once(cache: ModelCache[str]) -> None:
    cache.get(key("a"), lambda: "xx", 10)
    assert cache.get(key("a"), lambda: pytest.fail("loaded again"), 10) == "xx"


def test_models_of_other_types_and_devices_are_others(cache: ModelCache[str]) -> None:
    for other in (key("a"), ModelKey("a", "bfloat16", "cpu"), ModelKey("a", "float32", "cuda")):
        cache.get(other, lambda: "xx", 10)
    assert len(cache.keys) == 3


def test_the_least_recently_used_leaves_first(cache: ModelCache[str]) -> None:
    for name in ("a", "b", "a", "c"):
        cache.get(key(name), lambda: "xxxx", 10)
    assert cache.keys == [key("a"), key("c")]
    assert cache.bytes == 8


def test_a_model_over_the_limit_stays_alone(cache: ModelCache[str]) -> None:
    for name in ("a", "b"):
        cache.get(key(name), lambda: "x" * 50, 10)
    assert cache.keys == [key("b")]


def test_a_model_that_fails_to_load_changes_nothing(cache: ModelCache[str]) -> None:
    cache.get(key("a"), lambda: "xx", 10)
    with pytest.raises(KeyError):
        cache.get(key("b"), lambda: {}["weights"], 10)
    assert cache.keys == [key("a")]
