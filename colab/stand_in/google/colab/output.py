"""Callbacks from the page to Python."""

callbacks = {}


def register_callback(function_name: str, callback) -> None:
    callbacks[function_name] = callback
