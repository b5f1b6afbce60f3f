"""What the manifest says of the machine's libraries."""

import json
import subprocess
import sys

from workers.runtime.manifest import versions

SAY = "import json, sys; from workers.runtime.manifest import versions; print(json.dumps([dict(versions()), 'scipy' in sys.modules]))"  # noqa: E501


def test_versions_are_the_same_whatever_a_process_has_loaded_so_far():
    import scipy  # noqa: F401 - a job may have loaded it

    said, is_loaded = json.loads(subprocess.check_output([sys.executable, "-c", SAY], text=True))
    assert not is_loaded
    assert said == dict(versions())
    assert "scipy" in said
