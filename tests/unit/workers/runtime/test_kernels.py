"""What an image brings along for Triton is where Triton looks, before its first kernel."""

from workers.runtime.kernels import seed_triton


def shipped(folder):
    module = folder / "shipped/KEY/cuda_utils.so"
    module.parent.mkdir(parents=True)
    module.write_bytes(b"compiled in the build stage")
    return folder / "shipped"


def test_the_shipped_module_is_put_into_an_empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    seed_triton(shipped(tmp_path))
    assert (tmp_path / "cache/KEY/cuda_utils.so").read_bytes() == b"compiled in the build stage"
    assert [path.name for path in (tmp_path / "cache/KEY").iterdir()] == ["cuda_utils.so"]


def test_what_a_machine_has_compiled_itself_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    own = tmp_path / "cache/KEY/cuda_utils.so"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"its own")
    seed_triton(shipped(tmp_path))
    assert own.read_bytes() == b"its own"


def test_without_a_named_cache_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.delenv("TRITON_CACHE_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    seed_triton(shipped(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["shipped"]
