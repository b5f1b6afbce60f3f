"""`python -m services.compose_secrets FOLDER REDIS_DATA`: the secrets of a compose installation, made on first use.

What is there stays: delete a file, and all that depend on it, to have a new one made. Everything but Grafana's password
is readable by Tenfold's user alone.
"""

import json
import os
import secrets
import sys
from pathlib import Path

REDIS_CONF = """\
bind * -::*
requirepass {password}
dir {data}
appendonly yes
appendfsync everysec
save ""
maxmemory {maxmemory}
maxmemory-policy noeviction
"""
AWS_CREDENTIALS = """\
[default]
aws_access_key_id = {accessKey}
aws_secret_access_key = {secretKey}
"""


def main(folder: Path, redis_data: Path) -> None:
    """Write what is missing."""
    password = _kept(folder / "redis_password", secrets.token_urlsafe(32))
    _kept(folder / "tenfold_admin_token", "tf_" + secrets.token_urlsafe(32))
    flower = _kept(folder / "flower_password", secrets.token_urlsafe(16))
    _kept(folder / "grafana_password", secrets.token_urlsafe(16), mode=0o444)
    s3 = json.loads(_kept(folder / "s3.json", json.dumps(_s3_config())))
    keys = s3["identities"][0]["credentials"][0]
    _write(folder / "aws_credentials", AWS_CREDENTIALS.format(**keys))
    maxmemory = os.environ.get("REDIS_MAXMEMORY", "1gb")
    _write(folder / "redis.conf", REDIS_CONF.format(password=password, data=redis_data, maxmemory=maxmemory))
    _write(folder / "tenfold_redis_url", f"redis://:{password}@redis:6379/0")
    _write(folder / "flower.py", f"basic_auth = ['tenfold:{flower}']\n")


def _s3_config() -> dict[str, object]:
    """One identity with every right on the buckets of the compose file's S3 service."""
    credentials = [{"accessKey": secrets.token_hex(10), "secretKey": secrets.token_urlsafe(30)}]
    actions = ["Admin", "Read", "Write", "List"]
    return {"identities": [{"name": "tenfold", "credentials": credentials, "actions": actions}]}


def _kept(path: Path, fresh: str, mode: int = 0o400) -> str:
    """The secret of that file, or the fresh one written there."""
    if not path.exists():
        _write(path, fresh, mode)
    return path.read_text()


def _write(path: Path, text: str, mode: int = 0o400) -> None:
    """Whole or not at all."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600)
    fresh.write_text(text)
    fresh.chmod(mode)
    fresh.replace(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
