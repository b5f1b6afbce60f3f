"""The annotation service in this process over a real Redis and a folder, and a project in it."""

import json
from pathlib import Path

import pytest

from services.annotation.app import create_app
from shared.data import relation_documents
from shared.settings import Settings

DOCUMENTS = relation_documents.documents("native")[:6]


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    return Settings(redis_url=redis_url, data=tmp_path / "data")


@pytest.fixture
def make_app(settings):
    apps = []

    def make(**more):
        app = create_app(settings.model_copy(update=more))
        apps.append(app)
        return app

    yield make
    for app in apps:
        app.extensions["tenfold"].tail.close()
        app.extensions["tenfold"].store.redis.close()


@pytest.fixture
def app(make_app):
    return make_app()


@pytest.fixture
def api(app):
    return app.test_client()


@pytest.fixture
def upload(app, tmp_path):
    """Keep bytes as an uploaded file; its reference."""
    from hashlib import sha256

    from shared.jobs.files import UploadedFile

    def upload(data: bytes) -> str:
        path = tmp_path / "upload"
        path.write_bytes(data)
        file = UploadedFile(sha256(data).hexdigest(), len(data), "application/json")
        app.extensions["tenfold"].files.add(path, file)
        return file.ref

    return upload


@pytest.fixture
def recommended():
    """Each document's first two labels and one that is wrong."""
    lines = []
    for document in DOCUMENTS:
        own = [{"h": e["h"], "t": e["t"], "r": e["r"], "score": 1.5, "p": 0.9, "evidence": e["evidence"]}
               for e in document["labels"][:2]]  # fmt: skip
        lines.append({"title": document["title"], "recommendations": [*own, {**own[0], "r": "P999"}]})
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


@pytest.fixture
def project(api, upload, recommended):
    """Make a project and return its id: `project(annotators=[…])`."""

    def make(**fields):
        body = {"documents": upload(json.dumps(DOCUMENTS).encode()), "recommendations": upload(recommended),
                "blind_share": 0.0, "double_share": 0.0, **fields}  # fmt: skip
        answer = api.post("/v1/projects", json=body)
        assert answer.status_code == 201, answer.text
        return answer.json["id"]

    return make


@pytest.fixture
def act(api):
    """Send an event: `act(project, document, version, action, …)`."""

    def act(project_id, document, version, action, **fields):
        body = {"version": version, "action": action, **fields}
        return api.post(f"/v1/projects/{project_id}/documents/{document}/events", json=body)

    return act


def triple(label):
    return {key: label[key] for key in ("h", "t", "r")}
