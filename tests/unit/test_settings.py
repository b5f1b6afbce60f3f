"""Settings from the environment, and secret ones from mounted files."""

import os
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parents[2]
SAY = "from shared.settings import Settings; s = Settings(); print(s.redis, s.admin_token)"


def said(**environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TENFOLD_")}
    kept |= {"PYTHONPATH": str(SOURCE)} | environment
    done = subprocess.run([sys.executable, "-c", SAY], env=kept, capture_output=True, text=True)
    return done.stdout.strip() + done.stderr


def test_a_secret_setting_may_lie_in_a_mounted_file(tmp_path):
    (tmp_path / "tenfold_redis_url").write_text("redis://:pw@redis:6379/0\n")
    (tmp_path / "tenfold_admin_token").write_text("tf_x")
    assert said(TENFOLD_SETTINGS=str(tmp_path)) == "redis://:pw@redis:6379/0 tf_x"


def test_the_environment_comes_before_the_file(tmp_path):
    (tmp_path / "tenfold_redis_url").write_text("redis://file:1/0")
    assert said(TENFOLD_SETTINGS=str(tmp_path), TENFOLD_REDIS_URL="redis://env:2/0") == "redis://env:2/0 None"
