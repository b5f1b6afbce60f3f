import os
import socket

import pytest

from services.local.errors import CannotStart
from services.local.ports import check_free
from services.local.programs import Program


def needing(port):
    return [Program("gateway", [], ports={"http": port})]


def test_a_free_port_is_fine():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    check_free(needing(port))


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_a_taken_port_is_named_with_its_holder_and_the_remedy(address):
    with socket.create_server((address, 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(CannotStart) as refused:
            check_free(needing(port))
    for words in (f"port {port}, needed for gateway", f"(process {os.getpid()})", "TENFOLD_PORT_BASE"):
        assert words in str(refused.value)
