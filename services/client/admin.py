"""The calls of a cluster's operator; each needs the scope `admin`."""

from collections.abc import Iterator, Sequence

from services.client.connection import Connection
from services.client.models import AllowedModel, AuditEntry, AuditVerdict, Collected, Reindexed, Token


class Admin:
    """Tokens, the list of models that may be attacked and its audit, upkeep."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create_token(self, name: str, owner: str, scopes: Sequence[str], expires_days: float | None = None) -> Token:
        """A new token; its secret is in this answer and nowhere else."""
        body: dict[str, object] = {"name": name, "owner": owner, "scopes": list(scopes)}
        if expires_days is not None:
            body["expires_days"] = expires_days
        return Token.model_validate(self._connection.json("POST", "/v1/tokens", json=body))

    def tokens(self) -> list[Token]:
        return [Token.model_validate(item) for item in self._connection.json("GET", "/v1/tokens")["items"]]

    def revoke_token(self, token_id: str) -> None:
        self._connection.json("DELETE", f"/v1/tokens/{token_id}", repeatable=False)

    def allowed_models(self) -> list[AllowedModel]:
        answer = self._connection.json("GET", "/v1/redteam/allowed")
        return [AllowedModel.model_validate(item) for item in answer["items"]]

    def allow_model(self, name: str, ref: str, digest: str | None = None) -> AllowedModel:
        """Put a model on the list, as `allowed:<name>`, pinned by the digest of its weights."""
        body = {"ref": ref} | ({"digest": digest} if digest else {})
        return AllowedModel.model_validate(self._connection.json("PUT", f"/v1/redteam/allowed/{name}", json=body))

    def forbid_model(self, name: str) -> None:
        """Take a model off the list."""
        self._connection.json("DELETE", f"/v1/redteam/allowed/{name}", repeatable=False)

    def audit(self, page_size: int = 200) -> Iterator[AuditEntry]:
        """The red-team audit, oldest first."""
        query: dict[str, str | int] = {"limit": page_size}
        while True:
            page = self._connection.json("GET", "/v1/redteam/audit", params=query)
            yield from (AuditEntry.model_validate(item) for item in page["items"])
            if not page.get("next_after"):
                return
            query["after"] = page["next_after"]

    def verify_audit(self) -> AuditVerdict:
        """Whether no line of the audit was changed or removed."""
        return AuditVerdict.model_validate(self._connection.json("GET", "/v1/redteam/audit/verify"))

    def collect_garbage(self, *, dry_run: bool = False) -> Collected:
        return Collected.model_validate(self._connection.json("POST", "/v1/gc", json={"dry_run": dry_run}))

    def reindex(self) -> Reindexed:
        """Rebuild the records of finished jobs from the artifact store."""
        return Reindexed.model_validate(self._connection.json("POST", "/v1/reindex", json={}))
