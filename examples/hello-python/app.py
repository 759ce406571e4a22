"""Greets whoever the event names, and says where it ran."""

import platform

started = False


def handler(event, context):
    global started
    cold, started = not started, True
    name = event.get("name", "world") if isinstance(event, dict) else "world"
    print(f"greeting {name}")
    return {
        "message": f"Hello, {name}!",
        "coldStart": cold,
        "runtime": f"Python {platform.python_version()}",
        "requestId": context.aws_request_id,
        "remainingMs": context.get_remaining_time_in_millis(),
    }
