def handler(event, context):
    print("cleaning up after", event["error"])
    return event
