def handler(batch, context):
    ratings = [float(book["rating"]) for book in batch["Items"]]
    return {"books": len(ratings), "sum": sum(ratings), "unit": batch["BatchInput"]["unit"]}
