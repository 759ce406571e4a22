import time


def handler(event, context):
    size = event["size"]
    if size < 0:
        raise ValueError("sizes are positive")
    began = time.perf_counter()
    total = sum(number * number for number in range(size))
    return {"size": size, "round": event["round"], "total": total, "ms": (time.perf_counter() - began) * 1000}
