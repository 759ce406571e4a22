class NothingToDo(Exception):
    pass


def handler(event, context):
    sizes = event.get("sizes", [1000, 2000, 4000])
    if not sizes:
        raise NothingToDo("give at least one size")
    rounds = event.get("rounds", 3)
    return {"sizes": sizes, "round": 0, "rounds": rounds, "results": []}
