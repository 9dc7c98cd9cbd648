"""The one kind of error that a person can cause."""


class GradCamError(ValueError):
    """Something a person gave cannot be used.

    The message is one sentence that names the file or value, the reason, and the way out. The command line prints it
    and exits with 2; the dock shows it; neither shows a traceback.
    """
