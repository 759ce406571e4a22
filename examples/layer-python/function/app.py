"""Greets with a library that comes from a layer."""

import greetings


def handler(event, context):
    return {"message": greetings.greet(event.get("name", "world")), "from": greetings.__file__}
