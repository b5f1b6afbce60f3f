"""Generated requests against a real annotation service: its answers are what its document says, and none is a 5xx."""

import pytest

from tests.cluster.test_contract import ADMIN_TOKEN, _answers, _schemathesis
from tests.gateway_server import gateway_server
from tests.redis_server import redis_server


@pytest.mark.parametrize("auth", ["loopback", "token"])
def test_generated_requests_get_the_answers_the_document_promises(auth, tmp_path, kinds_path):
    settings = {"auth": auth, "admin_token": ADMIN_TOKEN}
    with (
        redis_server() as redis,
        gateway_server(redis.url, tmp_path, kinds_path, "services.annotation.server", **settings) as server,
    ):
        token = ADMIN_TOKEN if auth == "token" else None
        with server.client(token) as client:
            made = client.post("/v1/projects", json={"documents": "builtin:docre-native", "name": "ours"})
            assert made.status_code == 201
        _schemathesis(server, tmp_path, token, "--phases", "fuzzing,stateful", "--max-examples", "12")
        answered = _answers(server)
        assert not [key for key in answered if key[2] >= 500]
        assert answered.total() >= 100
