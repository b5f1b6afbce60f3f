"""Keys of endpoints: files in TENFOLD_SECRETS, read when an endpoint is opened, and nowhere else to be seen."""

from pathlib import Path

from shared.jobs.errors import InvalidInput


class Secret:
    """A key that doesn't show when printed, and can be taken out of other people's text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return "Secret(***)"

    def authorization(self) -> dict[str, str]:
        """The request header that carries it."""
        return {"Authorization": f"Bearer {self._text}"}

    def hide(self, text: str) -> str:
        """`text` without the key: servers repeat keys in their error messages."""
        return text.replace(self._text, "***")


def read_secret(name: str, folder: Path | None, used_by: str) -> Secret:
    """The secret of that name. Raises InvalidInput."""
    path = folder / name if folder else None
    try:
        text = path.read_text("ascii").strip() if path else None
    except (OSError, UnicodeDecodeError):
        text = None
    if text is None or not text.isprintable() or " " in text or not text:
        raise InvalidInput(
            f"{used_by} needs the secret {name}: put the key, one word of ASCII, into TENFOLD_SECRETS/{name}"
        )
    return Secret(text)
