"""Why a model could not be fetched, where it is not final."""


class SourceUnavailable(Exception):
    """One sentence about why a source did not give something; the next source is asked."""
