"""The one exception that a user of harmonylib is meant to read."""


class HarmonyError(Exception):
    """Bad input or configuration, told in one line: the thing, what is wrong with it, what to do.

    Commands print the line and leave with exit code 2; notebooks show it as the last line of the traceback.
    """
