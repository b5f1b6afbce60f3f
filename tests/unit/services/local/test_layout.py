import stat

import pytest

from services.local.errors import CannotStart
from services.local.layout import Layout


def test_two_clusters_have_socket_folders_of_their_own_and_short_ones(tmp_path):
    one, two = Layout(tmp_path / ("long" * 40)), Layout(tmp_path / "two")
    assert one.sockets != two.sockets
    assert len(str(one.supervisor_socket)) < 40


def test_rays_token_is_made_once_and_is_ours_alone(layout):
    first = layout.ray_token.read_text()
    layout.prepare()
    assert layout.ray_token.read_text() == first
    assert len(first) == 64
    assert stat.S_IMODE(layout.ray_token.stat().st_mode) == 0o600
    assert stat.S_IMODE(layout.sockets.stat().st_mode) == 0o700


def test_a_place_that_cannot_hold_the_data_is_named_with_the_remedy(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CannotStart, match=r"file/data can't be written to \(Not a directory\).*TENFOLD_DATA"):
        Layout(tmp_path / "file" / "data").prepare()


def test_a_socket_folder_that_is_none_is_not_trusted(tmp_path):
    layout = Layout(tmp_path / "data")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    layout.sockets.symlink_to(elsewhere)
    try:
        with pytest.raises(CannotStart, match="is somebody else's"):
            layout.prepare()
    finally:
        layout.sockets.unlink()
