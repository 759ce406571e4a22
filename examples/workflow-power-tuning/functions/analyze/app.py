def handler(event, context):
    by_size = {}
    for measured in event["results"]:
        by_size.setdefault(measured["size"], []).append(measured["ms"])
    best = {str(size): min(times) for size, times in by_size.items()}
    return {"rounds": event["rounds"], "measured": len(event["results"]), "best_ms": best}
