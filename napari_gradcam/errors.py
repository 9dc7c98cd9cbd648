"""The one kind of error that a person can cause."""


class GradCamError(ValueError):
    """Something a person gave cannot be used.

    The message is one sentence that names the file or value, the reason, and the way out. The command line prints it
    and exits with 2; the dock shows it; neither shows a traceback. What cannot be printed, in the name of a file say,
    becomes a space.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__("".join(letter if letter.isprintable() else " " for letter in sentence))
