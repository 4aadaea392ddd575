"""How a statement is put together from parts of our own. No value of a caller's is ever in its text."""


def statement(text: str, **parts: str) -> str:
    """Put each part in where the text has its name: `<columns>`."""
    for name, part in parts.items():
        text = text.replace(f"<{name}>", part)
    return text
