"""Where a job's files lie in the artifact store."""

COMMITTED = "committed.json"
MANIFEST = "manifest.json"
LOG = "log.txt"
REPLIES = "replies"
"""The folder of a job's loose model replies: they belong to the job, whichever claim asked for them."""


def job_folder(job_id: str) -> str:
    return f"jobs/{job_id}"


def job_file(job_id: str, prefix: str, name: str) -> str:
    """The key of one file of one claim; `prefix` is `<attempt>-<claim>`."""
    return f"jobs/{job_id}/{prefix}/{name}"


def committed_key(job_id: str) -> str:
    return f"jobs/{job_id}/{COMMITTED}"


def log_key(job_id: str) -> str:
    """The log of a job that ended without a worker: lost, or cancelled while it waited."""
    return f"jobs/{job_id}/{LOG}"


def upload_key(sha256: str) -> str:
    return f"files/{sha256}"


def sweep_key(sweep_id: str) -> str:
    return f"sweeps/{sweep_id}.json"
